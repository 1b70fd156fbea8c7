//! A real OCI registry.

mod content;
mod front;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::{Method, header};

pub use content::{Image, digest_of, noise};
pub use front::{RegistryFront, Served};

use super::process::Process;
use super::stack::program;
use super::{eventually, free_port, http_client, http_client_builder};

/// The type of manifest that Ollama makes and asks for.
const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The user whom a registry with logins knows, and the password.
pub const USER: (&str, &str) = ("drover", "open sesame");
/// The same as `htpasswd -B` writes it.
const HTPASSWD: &str = "drover:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";

/// Debian's `docker-registry`.
pub struct Registry {
    port: u16,
    scheme: &'static str,
    http: reqwest::Client,
    login: Option<(&'static str, &'static str)>,
    process: Process,
}

impl Registry {
    /// Starts the registry, over plain http and without logins, with all of its files in `dir`; ready when this returns.
    pub async fn start(dir: &Path) -> Self {
        Self::start_with(dir, String::new(), "http", http_client(), None).await
    }

    /// The same with a login, see [`USER`].
    pub async fn start_with_login(dir: &Path) -> Self {
        let file = dir.join("htpasswd");
        fs::create_dir_all(dir).and_then(|()| fs::write(&file, HTPASSWD)).expect("its logins");
        let login = format!("auth: {{htpasswd: {{realm: registry, path: {}}}}}\n", file.display());
        Self::start_with(dir, login, "http", http_client(), Some(USER)).await
    }

    /// The same over TLS, with a certificate of an authority of its own, whose certificate is `ca.pem` in `dir`.
    pub async fn start_with_tls(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("its folder");
        make_certificates(dir);
        let ca = fs::read(dir.join("ca.pem")).expect("the authority's certificate");
        let ca = reqwest::Certificate::from_pem(&ca).expect("a certificate");
        let http = http_client_builder().tls_certs_merge([ca]).build().expect("an HTTP client");
        Self::start_with(dir, String::new(), "https", http, None).await
    }

    async fn start_with(
        dir: &Path,
        more: String,
        scheme: &'static str,
        http: reqwest::Client,
        login: Option<(&'static str, &'static str)>,
    ) -> Self {
        let port = free_port();
        let config = dir.join("registry.yml");
        let text = configuration(dir, port, scheme == "https") + &more;
        fs::create_dir_all(dir).and_then(|()| fs::write(&config, text)).expect("its configuration");
        let mut command = Command::new(program("docker-registry"));
        command.arg("serve").arg(config);
        let process = Process::spawn("registry", command, dir);
        let mut registry = Self { port, scheme, http, login, process };
        let ready = registry.request(Method::GET, &(registry.url() + "/v2/"));
        eventually("the registry answers", Duration::from_secs(20), async || {
            assert!(registry.process.is_alive(), "{}", registry.process.diagnosis());
            ready.try_clone().expect("no body").send().await.and_then(reqwest::Response::error_for_status)
        })
        .await;
        registry
    }

    /// Host and port, as in the name of a model.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address())
    }

    /// The process, for its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A request as the one who may.
    fn request(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, url);
        match self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    /// The digest of the manifest that a tag names now.
    pub async fn manifest_digest(&self, repository: &str, tag: &str) -> String {
        let url = format!("{}/v2/{repository}/manifests/{tag}", self.url());
        let request = self.request(Method::HEAD, &url).header(header::ACCEPT, MANIFEST_TYPE);
        let answer = request.send().await.and_then(reqwest::Response::error_for_status).expect("a manifest");
        let digest = answer.headers().get("docker-content-digest").expect("the manifest's digest");
        digest.to_str().expect("text").to_owned()
    }
}

fn configuration(dir: &Path, port: u16, tls: bool) -> String {
    let tls = match tls {
        true => format!(", tls: {{certificate: {0}/server.pem, key: {0}/server.key}}", dir.display()),
        false => String::new(),
    };
    format!(
        "version: 0.1\n\
         log: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\"{tls}}}\n",
        dir.join("data").display()
    )
}

/// An authority and a certificate of it for 127.0.0.1.
fn make_certificates(dir: &Path) {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(dir);
        let output = command.output().expect("openssl starts");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    fs::write(dir.join("server.ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n").expect("a file");
    let key = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("{key} -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"));
    openssl(&format!("{key} -subj /CN=registry -keyout server.key -out server.csr"));
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.pem",
    );
}
