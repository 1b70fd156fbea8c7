//! `drover route`

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{
    runs::AtGateway,
    tools::{print_json, print_table},
};
use crate::gateway::explain::view::{Explanation, NodeView, Step};

#[derive(Subcommand)]
pub enum Route {
    /// Say which version and node a request would go to now, with which parameters, and why; nothing is called
    #[command(after_help = "Examples:\n  drover route explain support-bot\n  \
            drover route explain llama3.2:3b --message 'Hi' --option num_ctx=8192 -o json\n\n\
            POST /drover/v1/explain on the gateway takes any request and answers the same.")]
    Explain {
        /// The model as a request would name it
        model: String,
        /// What would be said
        #[arg(long, value_name = "TEXT", default_value = "")]
        message: String,
        /// An option as the request would have it, such as num_ctx=8192. May be given several times
        #[arg(long = "option", value_name = "NAME=VALUE", value_parser = option)]
        options: Vec<(String, Value)>,
        /// Who speaks: requests of one session go together
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        #[command(flatten)]
        gateway: AtGateway,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Form::Text)]
        output: Form,
    },
}

/// How an explanation is printed.
#[derive(Clone, Copy, ValueEnum)]
pub enum Form {
    /// For people.
    Text,
    /// All of it.
    Json,
}

fn option(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.into(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// Does what was asked; an error ends the process with 1.
pub async fn run(command: Route) -> Result<(), String> {
    let Route::Explain { model, message, options, session, gateway, output } = command;
    let messages = json!([{ "role": "user", "content": message }]);
    let options: serde_json::Map<_, _> = options.into_iter().collect();
    let request = json!({ "model": model, "messages": messages, "options": options });
    let explanation = gateway.client()?.explain(&request, session.as_deref()).await?;
    match output {
        Form::Json => print_json(&explanation),
        Form::Text => {
            print(&explanation);
            Ok(())
        }
    }
}

fn print(explanation: &Explanation) {
    let resolved = explanation.resolved.as_ref();
    let node = resolved.and_then(|resolved| resolved.node.as_deref()).unwrap_or("waits: every node is full");
    let model = resolved.map_or("-", |resolved| &resolved.model);
    let digest = resolved.map_or("-", |resolved| &resolved.digest);
    let split = explanation.split.iter().map(|share| format!("{} {} {} %", share.side, share.version, share.weight));
    let split: Vec<_> = split.collect();
    let mut rows = vec![
        ["Request", &format!("{} in namespace {}", explanation.requested, explanation.namespace)].map(str::to_owned),
        ["Stands for", &format!("{} {}", explanation.found.kind, explanation.found.name)].map(str::to_owned),
        ["Model", model].map(str::to_owned),
        ["Digest", digest].map(str::to_owned),
        ["Node", node].map(str::to_owned),
        ["Why", resolved.map_or("-", |resolved| &resolved.reason)].map(str::to_owned),
        ["Context", &context(explanation)].map(str::to_owned),
    ];
    if !split.is_empty() {
        rows.insert(2, ["Split".to_owned(), split.join(", ")]);
    }
    rows.extend(explanation.session.iter().map(|by| ["Session".to_owned(), format!("known by {by}")]));
    print_table(&rows.into_iter().map(Vec::from).collect::<Vec<_>>());
    println!();
    explanation.walk.iter().for_each(|line| println!("{line}"));
    if !explanation.walk.is_empty() {
        println!();
    }
    print_table(&parameters(explanation));
    for step in &explanation.steps {
        println!("\n{}; {} waiting", step.reason, step.waiting);
        print_table(&nodes(step));
    }
}

fn context(explanation: &Explanation) -> String {
    let context = &explanation.context;
    let window = context.num_ctx.as_ref().map_or("the node's own".into(), |window| format!("{} tokens", window.value));
    let fits = match context.is_prompt_longer {
        Some(true) => format!("too long, it is {}", context.when_longer),
        Some(false) => "fits".into(),
        None => format!("{} if too long", context.when_longer),
    };
    format!("{window}; prompt of about {} tokens: {fits}", context.estimated_prompt_tokens)
}

fn parameters(explanation: &Explanation) -> Vec<Vec<String>> {
    let keep_alive = explanation.keep_alive.iter().map(|keep| ("keep_alive", keep));
    let options = explanation.parameters.iter().map(|(name, option)| (name.as_str(), option));
    let rows = options.chain(keep_alive).map(|(name, effective)| {
        let source = serde_json::to_value(effective.source).unwrap_or_default();
        vec![name.to_owned(), effective.value.to_string(), source.as_str().unwrap_or_default().to_owned()]
    });
    let dropped = explanation.dropped_parameters.iter();
    let rows = rows.chain(
        dropped.map(|name| [name, "-", "dropped: the provider has nothing like it"].map(str::to_owned).to_vec()),
    );
    [["PARAMETER", "VALUE", "SET BY"].map(str::to_owned).to_vec()].into_iter().chain(rows).collect()
}

fn nodes(step: &Step) -> Vec<Vec<String>> {
    let row = |view: &NodeView| vec![view.node.clone(), format!("{:?}", view.state), view.why.clone()];
    let head = ["NODE", "STATE", "WHY"].map(str::to_owned).to_vec();
    [head].into_iter().chain(step.nodes.iter().map(row)).collect()
}
