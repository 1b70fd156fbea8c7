//! Lists and watches: which state they show, and what comes first.

use futures::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};

use crate::{
    requests::{namespace, pull, same},
    sides::{Embedded, Side, clean, difference, embedded, real, scenario},
    support::Scratch,
};

const PULLS: &str = "/apis/drover.dev/v1alpha1/namespaces/NS/modelpulls";

#[test]
fn options_that_make_no_sense_are_refused_in_the_same_words() {
    scenario(|| async {
        let queries = [
            "watch=true&sendInitialEvents=true",
            "watch=true&sendInitialEvents=true&resourceVersionMatch=Exact",
            "watch=true&resourceVersionMatch=NotOlderThan",
            "watch=true&resourceVersionMatch=Foo&continue=x",
            "watch=true&resourceVersion=abc",
            "watch=true&timeoutSeconds=abc",
            "sendInitialEvents=true",
            "resourceVersionMatch=Exact",
            "resourceVersionMatch=Exact&resourceVersion=0",
            "resourceVersionMatch=Foo&resourceVersion=5",
            "resourceVersionMatch=NotOlderThan&resourceVersion=5&continue=abc",
            "resourceVersionMatch=NotOlderThan&resourceVersion=5",
            "resourceVersion=abc",
            "limit=-1",
        ];
        let paths: Vec<_> = queries.iter().map(|query| format!("{PULLS}?{query}")).collect();
        let requests: Vec<_> = paths.iter().map(|path| ("GET", path.as_str(), Value::Null)).collect();
        same(&requests).await;
    });
}

/// Both APIs, and where the pulls of a new namespace are on them.
async fn place() -> ([Side; 2], String) {
    let sides = [real().await, embedded().await];
    let namespace = namespace(&sides).await;
    (sides, PULLS.replace("NS", &namespace))
}

/// Makes some objects; the revision before and after the first one.
async fn fill(side: &Side, pulls: &str) -> [String; 2] {
    let mut revisions = Vec::new();
    for name in ["a", "b", "c"] {
        let made = side.ask("POST", pulls, &pull(name, json!({ "model": "m" }))).await;
        revisions.push(made.body["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned());
    }
    let labels = json!({ "metadata": { "labels": { "x": "y" } } });
    let labelled = side.ask("PATCH", &format!("merge:{pulls}/b"), &labels).await;
    let last = labelled.body["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned();
    // An API server's cache may lag behind, and revision 0 is whatever it has: this answer waits until it has all.
    let all = format!("{pulls}?resourceVersion={last}&resourceVersionMatch=NotOlderThan");
    assert_eq!(side.ask("GET", &all, &Value::Null).await.body["items"].as_array().map(Vec::len), Some(3));
    [revisions.remove(0), revisions.remove(0)]
}

#[test]
fn watches_begin_in_the_same_way() {
    scenario(|| async {
        let (sides, pulls) = place().await;
        let mut seen = Vec::new();
        for side in &sides {
            let [_, second] = fill(side, &pulls).await;
            let match_any = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
            let queries = [
                "allowWatchBookmarks=true".to_owned(),
                "resourceVersion=0&allowWatchBookmarks=true".into(),
                format!("{match_any}&allowWatchBookmarks=true"),
                format!("{match_any}&resourceVersion={second}&allowWatchBookmarks=true"),
                format!("{match_any}&allowWatchBookmarks=true&labelSelector=x"),
                format!("{match_any}&allowWatchBookmarks=true&fieldSelector=metadata.name=b"),
                match_any.into(),
                format!("resourceVersion={second}"),
            ];
            let paths = queries.iter().flat_map(|query| {
                ["", "meta:", "table:"].map(|form| format!("{form}{pulls}?watch=true&timeoutSeconds=1&{query}"))
            });
            let streams = join_all(paths.map(async |path| {
                let mut events = side.events(&path, |_| false).await;
                clean(&mut events);
                (path, only_the_first_mark(events))
            }));
            seen.push(streams.await);
        }
        for ((path, real), (_, embedded)) in seen[0].iter().zip(&seen[1]) {
            assert_eq!(difference(real, embedded), None, "{path}");
        }
    });
}

/// Marks come from time to time; the one that ends what was there is told by its annotation.
fn only_the_first_mark(mut events: Value) -> Value {
    let events_of = events.as_array_mut().expect("events");
    events_of.retain(|event| event["type"] != "BOOKMARK" || event.to_string().contains("k8s.io/initial-events-end"));
    events
}

#[test]
fn lists_show_the_revision_that_is_asked_for() {
    scenario(|| async {
        let (sides, pulls) = place().await;
        let mut seen = Vec::new();
        for side in &sides {
            let [first, second] = fill(side, &pulls).await;
            let mut lists = Vec::new();
            for query in [
                format!("resourceVersion={first}&resourceVersionMatch=Exact"),
                format!("resourceVersion={second}&limit=1"),
                format!("resourceVersion={second}&resourceVersionMatch=Exact&limit=1"),
                format!("resourceVersion={first}&resourceVersionMatch=NotOlderThan&limit=2"),
                format!("resourceVersion={first}"),
                "resourceVersion=0&limit=1".to_owned(),
            ] {
                lists.extend(pages(side, &format!("{pulls}?{query}")).await);
            }
            seen.push(lists);
        }
        assert_eq!(seen[0], seen[1]);
    });
}

/// The names on each page of a list, to its end. What changes meanwhile isn't seen.
async fn pages(side: &Side, path: &str) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), path.to_owned());
    loop {
        let list = side.ask("GET", &next, &Value::Null).await;
        assert_eq!(list.code, 200, "{}: {next}: {}", side.name, list.body);
        let name = |item: &Value| item["metadata"]["name"].as_str().expect("a name").to_owned();
        pages.push(list.body["items"].as_array().expect("items").iter().map(name).collect());
        let Some(token) = list.body["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) else {
            return pages;
        };
        next = format!("{}?limit=1&continue={token}", path.split('?').next().expect("a path"));
    }
}

#[test]
fn many_watches_share_a_connection() {
    const WATCHES: usize = 60;
    scenario(|| async {
        for side in [real().await, embedded().await] {
            let namespace = namespace(std::slice::from_ref(&side)).await;
            let pulls = PULLS.replace("NS", &namespace);
            let path = format!("{pulls}?watch=true&resourceVersion=0");
            let watches = join_all((0..WATCHES).map(|_| async {
                let response = side.request("GET", &path).send().await.expect("a watch");
                (response.version(), response)
            }));
            let watches = watches.await;
            side.ask("POST", &pulls, &pull("a", json!({ "model": "m" }))).await;
            for (version, mut response) in watches {
                assert_eq!(version, reqwest::Version::HTTP_2, "{}", side.name);
                let event = response.chunk().await.expect("a piece").expect("an event");
                assert!(String::from_utf8_lossy(&event).contains("ADDED"), "{}: {event:?}", side.name);
            }
        }
    });
}

/// What is forgotten is said with 410, so that clients begin anew.
#[test]
fn what_is_forgotten_is_said_so() {
    /// More than are remembered.
    const CHANGES: usize = 12_100;
    const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
    scenario(|| async {
        let scratch = Scratch::new();
        let embedded = Embedded::start(&scratch.join("state")).await;
        let side = Side::embedded(&embedded).await;
        for name in ["a", "b"] {
            side.ask("POST", CONFIGMAPS, &json!({ "metadata": { "name": name } })).await;
        }
        let first = side.ask("GET", &format!("{CONFIGMAPS}?limit=1"), &Value::Null).await;
        let text = |pointer: &str| first.body.pointer(pointer).and_then(Value::as_str).expect(pointer).to_owned();
        let (token, revision) = (text("/metadata/continue"), text("/metadata/resourceVersion"));
        let change = async |number: usize| {
            let request = http::Request::patch(format!("{CONFIGMAPS}/{}", ["a", "b"][number % 2]));
            let request = request.header("content-type", "application/merge-patch+json");
            let body = json!({ "data": { "k": number.to_string() } }).to_string();
            let answer = embedded.api.answer(request.body(axum::body::Body::from(body)).expect("a request")).await;
            assert_eq!(answer.status(), 200);
        };
        // More than two at once would change the same object again and again.
        stream::iter(0..CHANGES).for_each_concurrent(2, change).await;
        let expired = async |query: &str| {
            let answer = side.ask("GET", &format!("{CONFIGMAPS}?{query}"), &Value::Null).await;
            assert_eq!((answer.code, &answer.body["reason"]), (410, &json!("Expired")), "{query}: {}", answer.body);
            answer.body["metadata"]["continue"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(expired(&format!("resourceVersion={revision}&resourceVersionMatch=Exact")).await, "");
        let next = expired(&format!("limit=1&continue={token}")).await;
        let rest = side.ask("GET", &format!("{CONFIGMAPS}?limit=1&continue={next}"), &Value::Null).await;
        assert_eq!(rest.body["items"][0]["metadata"]["name"], "b", "the rest as it is now: {}", rest.body);
        let events = side.events(&format!("{CONFIGMAPS}?watch=true&resourceVersion={revision}"), |_| true).await;
        assert_eq!((&events[0]["type"], &events[0]["object"]["code"]), (&json!("ERROR"), &json!(410)), "{events}");
    });
}
