//! Each byte of a blob comes from its registry once, and only verified blobs are ever complete.

use std::time::Duration;

use futures::future::join_all;
use http::{Method, StatusCode, header};

use crate::fake::Fake;
use crate::parts::registry::Image;
use crate::parts::{Scratch, eventually};
use crate::support::{Mirror, blob};

const MB: usize = 1_000_000;

/// A fake registry with one model `team/foo:1`, and a mirror over it that granted it to `token`.
async fn world(scratch: &Scratch, image: &Image) -> (Fake, Mirror) {
    let fake = Fake::start().await;
    fake.put("team/foo", "1", image);
    let mirror = Mirror::over(&fake.url(), scratch.path()).await;
    mirror.granted("token", "team/foo:1").await;
    (fake, mirror)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_byte_is_fetched_once_however_many_ask_for_it() {
    let scratch = Scratch::new();
    let image = Image::of_size(1, 9 * MB + 17);
    let (fake, mirror) = world(&scratch, &image).await;
    let (path, bytes) = (blob("token", "foo", &image.layer()), &image.blobs[1]);
    let ranges = [0..bytes.len(), 0..1, 5 * MB..6 * MB, 9 * MB..bytes.len(), 0..bytes.len(), MB..9 * MB];
    let answers = join_all(ranges.iter().map(|range| mirror.range(&path, range.clone()))).await;
    for (range, answer) in ranges.into_iter().zip(answers) {
        assert!(answer.expect("the range") == bytes[range.clone()], "{range:?} is wrong");
    }
    assert_eq!(fake.sent(&image.layer()), (1, 1, bytes.len() as u64));
    let whole = mirror.get(&path).await;
    assert!(whole.body == bytes[..] && whole.header("docker-content-digest") == image.layer());
    assert_eq!(fake.sent(&image.layer()).2, bytes.len() as u64, "what is there is not asked for again");
    let stats = mirror.stats().await;
    assert_eq!((&stats["bytesIn"], &stats["cacheBytes"]), (&bytes.len().into(), &bytes.len().into()), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_part_does_not_wait_for_what_lies_before_it() {
    let scratch = Scratch::new();
    let image = Image::of_size(2, 130 * MB);
    let (fake, mirror) = world(&scratch, &image).await;
    let (path, bytes) = (blob("token", "foo", &image.layer()), &image.blobs[1]);
    fake.behave(|how| how.hold_after = Some(24 * MB));
    let first = mirror.range(&path, 0..100 * MB);
    let far = async {
        mirror.counts("bytesIn", |bytes| bytes >= 20 * MB as i64).await;
        let far = mirror.range(&path, 110 * MB..120 * MB).await.expect("the far part");
        assert!(far == bytes[110 * MB..120 * MB]);
        assert!(fake.sent(&image.layer()).2 < 60 * MB as u64, "it waited for what lies before it");
        fake.behave(|how| how.hold_after = None);
    };
    let (first, ()) = tokio::join!(first, far);
    assert!(first.expect("the first part") == bytes[..100 * MB]);
    let whole = mirror.get(&path).await;
    assert!(whole.body == bytes[..]);
    assert_eq!(fake.sent(&image.layer()), (1, 1, bytes.len() as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_ignores_ranges_works() {
    let scratch = Scratch::new();
    let image = Image::of_size(3, 7 * MB);
    let (fake, mirror) = world(&scratch, &image).await;
    fake.behave(|how| how.ignores_ranges = true);
    let (path, bytes) = (blob("token", "foo", &image.layer()), &image.blobs[1]);
    let (middle, whole) = tokio::join!(mirror.range(&path, 3 * MB..7 * MB), mirror.get(&path));
    assert!(middle.expect("the middle") == bytes[3 * MB..] && whole.body == bytes[..]);
    let requests = fake.requests(&image.layer()).len();
    assert!(requests <= 2, "{requests} requests, each of which brings everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_goes_on_where_it_broke() {
    let scratch = Scratch::new();
    let image = Image::of_size(4, 5 * MB);
    let (fake, mirror) = world(&scratch, &image).await;
    fake.behave(|how| how.cut_after = Some(MB));
    let whole = mirror.get(&blob("token", "foo", &image.layer())).await;
    assert!(whole.body == image.blobs[1][..]);
    let (least, _, total) = fake.sent(&image.layer());
    assert!(least == 1 && total <= 5 * MB as u64 + 5 * (128 << 10), "{total} bytes were sent for {}", 5 * MB);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_are_never_a_complete_blob() {
    let scratch = Scratch::new();
    let image = Image::of_size(5, 3 * MB);
    let (fake, mirror) = world(&scratch, &image).await;
    fake.behave(|how| how.damaged = true);
    let path = blob("token", "foo", &image.layer());
    let broken = mirror.try_send(mirror.request(Method::GET, &path)).await;
    assert!(broken.is_err(), "damaged bytes were served to the end: {:?}", broken.map(|answer| answer.status));
    assert_eq!(mirror.stats().await["corruptBlobs"], 1);
    let soon = mirror.get(&path).await;
    let text = String::from_utf8_lossy(&soon.body).into_owned();
    assert!(soon.status == StatusCode::BAD_GATEWAY && text.contains("damaged"), "{soon:?}");
    fake.behave(|how| how.damaged = false);
    let whole = eventually("the right bytes are fetched", Duration::from_secs(20), async || {
        let answer = mirror.get(&path).await;
        if answer.status == StatusCode::OK { Ok(answer) } else { Err(answer.status) }
    });
    assert!(whole.await.body == image.blobs[1][..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_another_size_than_its_manifest_says_is_refused() {
    let scratch = Scratch::new();
    let image = Image::of_size(6, MB);
    let (fake, mirror) = world(&scratch, &image).await;
    fake.replace("team/foo", &image.layer(), image.blobs[1][..MB / 2].to_vec());
    let path = blob("token", "foo", &image.layer());
    let answer = mirror.get(&path).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(answer.status == StatusCode::BAD_GATEWAY && text.contains("500000 bytes"), "{answer:?}");
    assert_eq!(mirror.head(&path).await.status, StatusCode::BAD_GATEWAY);
    let range = mirror.send(mirror.request(Method::GET, &path).header(header::RANGE, "bytes=0-9")).await;
    assert!(
        range.status == StatusCode::BAD_GATEWAY && range.body.is_empty(),
        "Ollama would keep words as bytes: {range:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_mirror_goes_on_with_what_is_on_its_disk() {
    let scratch = Scratch::new();
    let image = Image::of_size(7, 60 * MB);
    let (fake, mut mirror) = world(&scratch, &image).await;
    fake.behave(|how| how.hold_after = Some(40 * MB));
    let path = blob("token", "foo", &image.layer());
    let before = mirror.range(&path, 0..39 * MB).await.expect("what came before the kill");
    mirror.drover.kill9();
    fake.behave(|how| how.hold_after = None);
    mirror.drover.restart().await;
    let whole = mirror.get(&path).await;
    assert!(whole.body == image.blobs[1][..] && before == whole.body[..39 * MB], "the grant and the bytes are there");
    let (_, _, total) = fake.sent(&image.layer());
    // What came after the last entry in the journal, which is made every 8 MiB, and what was on the line.
    assert!(total <= 60 * MB as u64 + (16 << 20), "{total} bytes were sent for {}", 60 * MB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_takes_nothing_from_others() {
    let scratch = Scratch::new();
    let image = Image::of_size(8, 6 * MB);
    let (fake, mirror) = world(&scratch, &image).await;
    fake.behave(|how| how.hold_after = Some(2 * MB));
    let path = blob("token", "foo", &image.layer());
    let gone = mirror.request(Method::GET, &path).send().await.expect("an answer");
    mirror.counts("bytesIn", |bytes| bytes > MB as i64).await;
    let stays = mirror.request(Method::GET, &path).send().await.expect("an answer");
    drop(gone);
    fake.behave(|how| how.hold_after = None);
    assert!(stays.bytes().await.expect("all bytes") == image.blobs[1][..]);
    assert_eq!(fake.sent(&image.layer()), (1, 1, 6 * MB as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_say_exactly_what_follows() {
    let scratch = Scratch::new();
    let image = Image::of_size(9, MB);
    let (_fake, mirror) = world(&scratch, &image).await;
    let path = blob("token", "foo", &image.layer());
    let head = mirror.head(&path).await;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "1000000"));
    let whole = mirror.get(&path).await;
    assert_eq!((whole.header("location"), whole.header("content-length")), (path.as_str(), "1000000"));
    let ask = |range: &'static str| mirror.send(mirror.request(Method::GET, &path).header(header::RANGE, range));
    for (range, status, content, length) in [
        ("bytes=0-0", StatusCode::PARTIAL_CONTENT, "bytes 0-0/1000000", 1),
        ("bytes=999999-", StatusCode::PARTIAL_CONTENT, "bytes 999999-999999/1000000", 1),
        ("bytes=-10", StatusCode::PARTIAL_CONTENT, "bytes 999990-999999/1000000", 10),
        ("bytes=5-2000000", StatusCode::PARTIAL_CONTENT, "bytes 5-999999/1000000", 999_995),
        ("bytes=1000000-", StatusCode::RANGE_NOT_SATISFIABLE, "bytes */1000000", 0),
        ("bytes=9-5", StatusCode::OK, "", MB),
        ("lines=1-2", StatusCode::OK, "", MB),
    ] {
        let answer = ask(range).await;
        assert_eq!(
            (answer.status, answer.header("content-range"), answer.body.len()),
            (status, content, length),
            "{range}"
        );
    }
}
