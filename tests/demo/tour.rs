//! The tour itself: from nothing to a rollout and back.

use std::fmt::Display;
use std::time::Duration;

use drover::api::ModelDeployment;
use drover::domain::rollout::State;
use drover::ports::GatewayStats;
use kube::Api;

use crate::parts::{ANSWERS, Parts, env_file, gateway_url};
use crate::shares::Shares;
use crate::support::{eventually, http_client};

const NAME: &str = "support-bot";
const OLD: &str = ANSWERS[0].0;
const NEW: &str = ANSWERS[1].0;
/// Long enough for anything that happens soon, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// What Drover promises for a rollback.
const ROLLBACK_WITHIN: f64 = 1.0;

pub struct Tour<'a> {
    parts: &'a Parts,
    deployments: Api<ModelDeployment>,
}

impl<'a> Tour<'a> {
    pub async fn new(parts: &'a Parts) -> Result<Self, String> {
        Ok(Self { parts, deployments: Api::namespaced(parts.client().await?, "default") })
    }

    pub async fn walk(&self) -> Result<(), String> {
        self.declare().await?;
        self.ask().await?;
        self.roll_out().await?;
        self.undo().await
    }

    async fn declare(&self) -> Result<(), String> {
        heading("1. Two nodes, two models for each of them, two versions, and a deployment of the first");
        self.run("kubectl apply -f manifests/quickstart/").await?;
        self.run("kubectl wait --for=condition=Ready modelpull --all --timeout=60s").await?;
        self.run("kubectl wait --for=condition=Ready modeldeployment/support-bot --timeout=60s").await?;
        self.run("kubectl get drover").await?;
        let (sent, held) = (self.parts.registry_front.blob_bytes(), self.held().await);
        println!("  the registry sent {sent} bytes for {held} bytes on two nodes: the mirror fetched each byte once");
        if sent * 2 > held { Err("some bytes were fetched more than once".into()) } else { Ok(()) }
    }

    /// Bytes of all models on both nodes, without the aliases.
    async fn held(&self) -> u64 {
        let mut held = 0;
        for node in &self.parts.nodes {
            let tags = node.tags().await;
            let models = tags["models"].as_array().into_iter().flatten();
            let plain = models.filter(|model| model["name"].as_str().is_some_and(|name| name.starts_with("shop/")));
            held += plain.filter_map(|model| model["size"].as_u64()).sum::<u64>();
        }
        held
    }

    async fn ask(&self) -> Result<(), String> {
        heading("2. Asking it, by Ollama's API and by OpenAI's");
        let url = gateway_url();
        let message = r#""messages": [{"role": "user", "content": "Where is my bicycle?"}]"#;
        let said = self
            .run(&format!(r#"curl -si {url}/api/chat -d '{{"model": "{NAME}", "stream": false, {message}}}'"#))
            .await?;
        must_say(&said, ANSWERS[0].1)?;
        let said =
            self.run(&format!(r#"curl -s {url}/v1/chat/completions -d '{{"model": "{NAME}", {message}}}'"#)).await?;
        must_say(&said, ANSWERS[0].1)
    }

    async fn roll_out(&self) -> Result<(), String> {
        heading("3. The next version takes over: 20 %, 50 %, then all requests");
        let patch = format!(r#"{{"spec": {{"version": "{NEW}"}}}}"#);
        self.run(&format!("kubectl patch modeldeployment {NAME} --type=merge -p '{patch}'")).await?;
        for weight in [20, 50] {
            let what = format!("{NEW} takes {weight} %");
            let state = self.until(&what, |state| state.canary.as_ref().is_some_and(|c| c.weight == weight)).await;
            self.measure(&what, state.revision, weight.into()).await?;
            if weight == 20 {
                self.run("kubectl get modeldeployment,modelversion").await?;
            }
        }
        let what = format!("{NEW} takes all requests");
        let state = self.until(&what, |s| s.stable_version() == Some(NEW) && s.canary.is_none()).await;
        self.measure(&what, state.revision, 100).await
    }

    async fn undo(&self) -> Result<(), String> {
        heading("4. Second thoughts");
        self.run(&format!("drover rollout undo {NAME}")).await?;
        let done = |state: &State| state.last_rollback.as_ref().is_some_and(|r| r.effective_at.is_some());
        let state = self.until("the rollback is effective", done).await;
        let rollback = state.last_rollback.as_ref().ok_or("the rollback is not in the status")?;
        let effective_at = rollback.effective_at.ok_or("the rollback is not effective")?;
        let took = effective_at.duration_since(rollback.decided_at).as_secs_f64();
        let what = format!("back from {} to {} in {:.0} ms", rollback.from, rollback.to, took * 1000.0);
        if (rollback.from.as_str(), rollback.to.as_str()) != (NEW, OLD) || took >= ROLLBACK_WITHIN {
            return Err(format!("expected a rollback from {NEW} to {OLD} within {ROLLBACK_WITHIN} s: {what}"));
        }
        self.measure(&what, state.revision, 0).await?;
        self.run(&format!("drover rollout status {NAME}")).await.map(drop)
    }

    /// Says what is so since this revision, after checking it with requests.
    async fn measure(&self, what: &str, revision: i64, percent: usize) -> Result<(), String> {
        self.until_gateway_serves(revision).await;
        let is_unchanged = async || self.state().await.is_ok_and(|state| state.revision == revision);
        let shares = Shares::count(is_unchanged).await?;
        println!("  {what:<32}  {shares}");
        shares.expect(NEW, percent)
    }

    async fn run(&self, line: &str) -> Result<String, String> {
        self.parts.shell.run(line).await
    }

    async fn state(&self) -> Result<State, String> {
        let deployment = self.deployments.get_status(NAME).await.map_err(|error| error.to_string())?;
        deployment.status.map(|status| status.rollout).ok_or_else(|| "no status yet".into())
    }

    /// Waits until the deployment's state is as described.
    async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) -> State {
        eventually(what, SOON, async || {
            let state = self.state().await?;
            if holds(&state) { Ok(state) } else { Err(format!("{state:?}")) }
        })
        .await
    }

    async fn until_gateway_serves(&self, revision: i64) {
        let (http, url) = (http_client(), gateway_url() + "/drover/v1/stats");
        eventually(&format!("the gateway serves revision {revision}"), SOON, async || {
            let answer = http.get(&url).send().await.map_err(|error| error.to_string())?;
            let stats: GatewayStats = answer.json().await.map_err(|error| error.to_string())?;
            let served = stats.deployments.iter().find(|deployment| deployment.name == NAME).map(|d| d.revision);
            if served.is_some_and(|served| served >= revision) { Ok(()) } else { Err(format!("{served:?}")) }
        })
        .await;
    }
}

fn must_say(answer: &str, sentence: &str) -> Result<(), String> {
    if answer.contains(sentence) { Ok(()) } else { Err(format!("the answer should contain {sentence:?}: {answer}")) }
}

fn heading(text: impl Display) {
    println!("\n{text}\n");
}

/// Everything in here works in another terminal while the tour stays up.
pub fn print_what_to_try_next(parts: &mut Parts) {
    let (env, url) = (env_file(), gateway_url());
    let [node, _] = &mut parts.nodes;
    println!(
        r#"
All of it stays up until Ctrl-C. What to try next, in another terminal:

  . {env}
      kubectl, ollama and drover as the tour uses them
  kubectl get drover -o wide
  kubectl get modeldeployment -w
      leave it open and watch what the next ones do
  drover rollout retry {NAME}
      {NEW} comes again: 20 %, 50 %, 100 %
  drover rollout promote {NAME}
      leaves a step early
  drover rollout undo {NAME}
      and back, at any time
  kubectl edit modeldeployment {NAME}
      other steps, requireApproval: true, paused: true
  OLLAMA_HOST={url} ollama list
      to its clients the gateway is an Ollama server,
  curl {url}/v1/models
      and an OpenAI server at {url}/v1
  kill -9 {node}; kubectl get ollamanode -w
      node-1 dies: requests go to node-2
"#,
        env = env.display(),
        node = node.process().pid(),
    );
}
