//! What a caller asks for, in Ollama's own terms; and the body that a node gets for it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{
    fields::{Fields, json},
    format::Format,
    parameters::{Parameters, check_all},
    prompt::with_system,
    schema::SchemaCheck,
    task::{Task, Translated, options},
};
use crate::{
    domain::{
        keep_alive::{KeepAlive, Keeper, keeper},
        model_db::{Capabilities, Capability},
        params::{Source, Window, merge},
    },
    ports::RunRecord,
    routing_table::{Node, Target},
};

/// So many bytes of a prompt tell conversations apart.
const OPENING: usize = 512;

/// A body for a node.
pub struct NodeBody {
    /// JSON.
    pub bytes: Bytes,
    /// Whether the version's system prompt is in it.
    pub has_system_prompt: bool,
}

/// Parameters that somebody set, as the table has them.
pub type Layer = (Source, Arc<BTreeMap<String, Value>>);

/// A request in Ollama's own terms.
#[derive(Clone)]
pub struct Ask {
    /// How the answer is to be written.
    pub format: Format,
    /// What is to be done.
    pub task: Task,
    /// The name that the caller asked for.
    pub model: String,
    /// Whether the answer is to come piece by piece.
    pub stream: bool,
    /// The context window that the caller asked for, in tokens.
    pub num_ctx: Option<u64>,
    /// What the caller says about who speaks, as JSON: requests with the same go together.
    pub session: Option<Bytes>,
    /// Whether the caller says that a prompt which is too long is to be cut, or not.
    pub truncate: Option<bool>,
    /// By what its answer is checked before it is sent.
    pub check: Option<Arc<SchemaCheck>>,
    /// Whether a wish to think is dropped for models that can't.
    lenient_thinking: bool,
    keep_alive: Option<(KeepAlive, Bytes)>,
    options: Fields,
    /// Parameters of others than the caller, the version and the node.
    layers: Vec<Layer>,
    rest: Fields,
}

impl Ask {
    /// Reads a request in Ollama's own format.
    ///
    /// # Errors
    /// A message for the caller that names the field.
    pub fn ollama(task: Task, mut fields: Fields) -> Result<Self, String> {
        let options = options(&mut fields)?;
        check_all("options", &options)?;
        Self::new(Translated { format: Format::Ollama, task, fields, options, session: None, lenient_thinking: false })
    }

    /// Takes over a translated request.
    ///
    /// # Errors
    /// A message for the caller that names the field.
    pub fn new(translated: Translated) -> Result<Self, String> {
        let Translated { format, task, mut fields, mut options, session, lenient_thinking } = translated;
        let model: String = fields.take("model")?.unwrap_or_default();
        if model.is_empty() {
            return Err("model is required".into());
        }
        let num_ctx = options.remove("num_ctx").and_then(|value| tokens(&value));
        let keep_alive = fields.remove("keep_alive").map(read_keep_alive).transpose()?;
        let stream = fields.take("stream")?.unwrap_or(true) && task.streams();
        let truncate = if task.truncates() { fields.take("truncate")? } else { None };
        let rest = fields;
        Ok(Self {
            format,
            task,
            model,
            stream,
            num_ctx,
            session,
            truncate,
            check: None,
            lenient_thinking,
            keep_alive,
            options,
            layers: Vec::new(),
            rest,
        })
    }

    /// What tells conversations apart: what the caller says about who speaks, else how the prompt begins, which the turns
    /// of a conversation share. With it the word for which of the two it is.
    pub fn session(&self) -> Option<(&'static str, &[u8])> {
        let prompt = || match self.task {
            Task::Chat => self.rest.get("messages"),
            Task::Generate | Task::Embeddings => self.rest.get("prompt"),
            Task::Embed => self.rest.get("input"),
        };
        let user = self.session.as_ref().map(|user| ("user", user));
        let said = user.or_else(|| prompt().map(|prompt| ("prompt", prompt)));
        said.map(|(known_by, said)| (known_by, &said[..said.len().min(OPENING)]))
    }

    /// Writes into the record what is asked for.
    pub fn describe(&self, record: &mut RunRecord) {
        #[derive(Deserialize)]
        struct Tool {
            function: Named,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        record.requested = self.model.as_str().into();
        record.stream = self.stream;
        record.has_format = self.rest.get("format").is_some_and(|format| &format[..] != b"\"\"");
        let tools = self.rest.get("tools").and_then(|tools| serde_json::from_slice::<Vec<Tool>>(tools).ok());
        record.tools = tools.into_iter().flatten().map(|tool| tool.function.name).collect();
    }

    /// Has exactly these parameters take effect, wherever they came from.
    pub fn pin(&mut self, parameters: impl Iterator<Item = (String, Value)>, keep_alive: Option<&Value>) {
        self.keep_alive = keep_alive.and_then(|keep_alive| read_keep_alive(json(keep_alive.clone())).ok());
        self.options = Fields::default();
        parameters.for_each(|(name, value)| self.options.set(&name, json(value)));
        self.num_ctx = self.options.remove("num_ctx").and_then(|value| tokens(&value));
    }

    /// Has its answer checked by the schema that it brings, if it brings one.
    ///
    /// # Errors
    /// That the schema is none.
    pub fn check_schema(&mut self) -> Result<(), String> {
        if let Some(format) = self.rest.get("format") {
            self.check = SchemaCheck::of(format)?.map(Arc::new);
        }
        Ok(())
    }

    /// What a model needs to be able to do for it.
    pub fn needs(&self) -> Capabilities {
        let is_listed = |list: Option<&Bytes>| {
            list.and_then(|list| serde_json::from_slice::<Vec<IgnoredAny>>(list).ok())
                .is_some_and(|list| !list.is_empty())
        };
        if matches!(self.task, Task::Embed | Task::Embeddings) {
            return Capabilities::of(&[Capability::Embedding]);
        }
        let mut needs = Capabilities::of(&[Capability::Chat]);
        if is_listed(self.rest.get("images")) || self.shows_images() {
            needs = needs.with(Capability::Vision);
        }
        if is_listed(self.rest.get("tools")) {
            needs = needs.with(Capability::Tools);
        }
        needs
    }

    fn shows_images(&self) -> bool {
        #[derive(Deserialize)]
        struct Message {
            #[serde(default)]
            images: Option<Vec<IgnoredAny>>,
        }
        let Some(messages) = self.rest.get("messages") else { return false };
        // Most conversations show none, and a search is sooner done than reading all of a long one. Names may be written in escapes.
        let has = |text: &str| memmem::find(messages, text.as_bytes()).is_some();
        if !has("\"images\"") && !has("\\u") {
            return false;
        }
        let messages = serde_json::from_slice::<Vec<Message>>(messages).unwrap_or_default();
        messages.into_iter().any(|message| message.images.is_some_and(|images| !images.is_empty()))
    }

    /// The same with parameters of others, which count as their sources say.
    pub fn with_layers(&self, layers: Vec<Layer>) -> Self {
        Self { layers, ..self.clone() }
    }

    /// What a layer says of the context window, in tokens.
    fn layered_context(&self) -> impl Iterator<Item = (u64, Source)> {
        let said =
            |(source, layer): &Layer| layer.get("num_ctx").and_then(|value| Some((whole(value.as_f64()?)?, *source)));
        self.layers.iter().filter_map(said)
    }

    /// The context window that `target` on `node` is to be called with; `None` leaves it to the node.
    ///
    /// # Errors
    /// The limit of model and node, when that is less than what is asked for or configured.
    pub fn context(&self, target: &Target, node: &Node) -> Result<Option<(u64, Source)>, u64> {
        let of = |said: &BTreeMap<String, Value>| said.get("num_ctx").and_then(|value| whole(value.as_f64()?));
        let version = of(&target.parameters).map(|window| (window, Source::Version));
        let catalogue = of(&target.defaults).map(|window| (window, Source::Catalog));
        let configured = self.layered_context().min_by_key(|(_, source)| *source).or(version).or(catalogue);
        let is_forced = configured.is_some_and(|(_, source)| source == Source::Forced);
        let window = Window {
            requested: self.num_ctx.filter(|_| !is_forced),
            version: configured.map(|(window, _)| window),
            node: node.context_length.map(u64::from),
            model_limit: target.context_length(),
            node_limit: node.max_context_length.map(u64::from),
        };
        let said = |(window, source)| match (source, configured) {
            (Source::Version, Some((_, source))) => (window, source),
            _ => (window, source),
        };
        window.effective().map(|effective| effective.map(said))
    }

    /// The parameters that take effect for `target` on `node`, which is called with this context window.
    pub fn parameters<'a>(
        &'a self,
        target: &'a Target,
        node: &'a Node,
        window: Option<(u64, Source)>,
    ) -> Parameters<'a> {
        let own = self.options.iter().map(|(name, value)| (name, value.clone()));
        let written = |said: &'a BTreeMap<String, Value>| {
            said.iter().map(|(name, value)| (name.as_str(), json(value))).collect::<Vec<_>>()
        };
        let served = [(Source::Version, written(&target.parameters)), (Source::Catalog, written(&target.defaults))];
        let layers = self.layers.iter().map(|(source, layer)| (*source, written(layer)));
        let mut options = merge([(Source::Request, own.collect())].into_iter().chain(layers).chain(served));
        options.remove("num_ctx");
        if let Some((window, source)) = window {
            options.insert("num_ctx", (json(window), source));
        }
        let parameters = Parameters { options, keep_alive: self.keep_alive(node), dropped: Vec::new() };
        match &target.offer {
            Some(offer) => parameters.for_provider(&offer.endpoint),
            None => parameters,
        }
    }

    /// The body for a node, which knows `target` by the name `target.model`. A prompt that is too long is cut if
    /// `truncate` says so, else refused.
    pub fn body(&self, target: &Target, parameters: &Parameters<'_>, truncate: bool) -> NodeBody {
        let mut first = vec![("model", json(&*target.model))];
        if self.task.streams() {
            first.push(("stream", json(self.stream)));
        }
        if self.task.truncates() {
            first.push(("truncate", json(truncate)));
        }
        first.extend(parameters.write().map(|options| ("options", options)));
        first.extend(parameters.keep_alive.iter().map(|(keep_alive, _)| ("keep_alive", keep_alive.clone())));
        let prompt = target.system_prompt.as_deref().and_then(|prompt| with_system(self.task, &self.rest, prompt));
        let rest = prompt.as_ref().unwrap_or(&self.rest);
        let bytes = match self.thinking(target) {
            Some(think) => {
                let mut rest = rest.clone();
                rest.remove("think");
                first.extend(think.map(|think| ("think", think)));
                rest.write(&first)
            }
            None => rest.write(&first),
        };
        NodeBody { bytes, has_system_prompt: prompt.is_some() }
    }

    /// What becomes of a lenient wish to think: `None` when it stays as it is.
    fn thinking(&self, target: &Target) -> Option<Option<Bytes>> {
        let details = target.details.as_ref().filter(|details| !details.capabilities.is_empty())?;
        let wish = self.rest.get("think").filter(|_| self.lenient_thinking)?;
        if !details.capabilities.iter().any(|capability| capability == "thinking") {
            return Some(None);
        }
        // Ollama takes levels for this family alone.
        let is_level = wish.starts_with(b"\"") && details.family != "gptoss";
        is_level.then(|| Some(json(true)))
    }

    fn keep_alive(&self, node: &Node) -> Option<(Bytes, Source)> {
        let own = node.keep_alive.as_deref().and_then(KeepAlive::from_text);
        match keeper(self.keep_alive.as_ref().map(|(keep, _)| *keep), own) {
            Keeper::Request => self.keep_alive.as_ref().map(|(_, written)| (written.clone(), Source::Request)),
            Keeper::Node => node.keep_alive.as_deref().map(|keep| (json(keep), Source::Node)),
            Keeper::Nobody => None,
        }
    }
}

fn tokens(value: &[u8]) -> Option<u64> {
    whole(serde_json::from_slice(value).ok()?)
}

fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..=1e12).contains(&number)).then_some(number as u64)
}

fn read_keep_alive(written: Bytes) -> Result<(KeepAlive, Bytes), String> {
    let keep = match serde_json::from_slice(&written) {
        Ok(Value::Number(seconds)) => seconds.as_f64().and_then(KeepAlive::from_seconds),
        Ok(Value::String(text)) => KeepAlive::from_text(&text),
        _ => None,
    };
    let keep = keep.ok_or("keep_alive: write a duration such as \"10m\", or a number of seconds")?;
    Ok((keep, written))
}
