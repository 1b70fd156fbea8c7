//! The embedded API as a process of its own, so that it can be killed and started again as the real one: the test
//! program starts itself to run only the test [`TEST`], which calls [`serve`].

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use drover::api::crds;
use drover::standalone::{Api, Durability, Server};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What the test is called that a test program needs to start the embedded API.
pub const TEST: &str = "the_embedded_api";

const DIR: &str = "DROVER_TEST_API_DIR";
const PORT: &str = "DROVER_TEST_API_PORT";

/// The server with all of its files in `dir`.
pub fn command(dir: &Path, port: u16) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args(["--exact", TEST, "--ignored", "--nocapture"]);
    command.env(DIR, dir).env(PORT, port.to_string());
    command
}

/// Answers until the process is killed.
pub async fn serve() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("started by a test"));
    let port = std::env::var(PORT).ok().and_then(|port| port.parse().ok()).expect("a port");
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("info,drover=debug").init();
    let log = File::options().create(true).append(true).open(dir.join(super::AUDIT_LOG)).expect("the log of writes");
    let (api, service) = Api::open(&dir, &crds(), Durability::Normal).await.expect("the state can be opened");
    let audited = Router::new().fallback_service(api).layer(middleware::from_fn_with_state(Arc::new(log), audit));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (_, answers) = Server::bind(audited, address, &dir, CancellationToken::new()).await.expect("it can listen");
    let ended = tokio::join!(service, answers);
    panic!("it ended: {ended:?}");
}

/// Logs a write before it is done and before it is answered, as a real API server does.
async fn audit(State(log): State<Arc<File>>, request: Request, next: Next) -> Result<Response, Infallible> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let Some(mut event) = event(request.method(), request.uri().path(), agent) else {
        return Ok(next.run(request).await);
    };
    event["auditID"] = json!(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    event["stage"] = json!(super::writes::RECEIVED);
    let mut entry = Entry { log, event };
    entry.log();
    entry.event["stage"] = json!(super::writes::ANSWERED);
    let response = next.run(request).await;
    entry.event["responseStatus"] = json!({"code": response.status().as_u16()});
    Ok(response)
}

/// A write in work. Its second line is written when it ends, also because the client went away.
struct Entry {
    log: Arc<File>,
    event: Value,
}

impl Entry {
    fn log(&self) {
        self.log.as_ref().write_all(format!("{}\n", self.event).as_bytes()).expect("the log can be written");
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.log();
    }
}

/// What the audit log says of a write, but for its answer; `None` for what isn't one.
fn event(method: &Method, path: &str, user_agent: &str) -> Option<Value> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let rest = match &segments[..] {
        ["api", _version, rest @ ..] | ["apis", _, _version, rest @ ..] => rest,
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let part = |index: usize| rest.get(index).copied().unwrap_or_default();
    let (resource, name, subresource) = (part(0), part(1), part(2));
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ => return None,
    };
    let object = json!({"resource": resource, "subresource": subresource, "namespace": namespace, "name": name});
    Some(json!({"verb": verb, "objectRef": object, "userAgent": user_agent}))
}
