//! What the gateways chose for profiles by what they measured, each for itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::{Stream, TryStreamExt, stream};
use tokio::time::sleep;
use tracing::debug;

use crate::{
    api::RoutingProfile,
    controller::Context,
    domain::directory::{Agreement, Objective},
    ports::GatewayStats,
};

/// How often the gateways are asked, while there are profiles that go by what they measure.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// By namespace and profile.
pub type Choices = BTreeMap<String, BTreeMap<String, Agreement>>;

/// What they said last.
pub type Said = Arc<ArcSwap<Choices>>;

/// Asks the gateways again and again, and keeps what they say; wakes when that is something else than before.
pub fn changes(context: Arc<Context>, said: Said) -> impl Stream<Item = ()> {
    stream::unfold((context, said), |(context, said)| async move {
        loop {
            sleep(ASK_EVERY).await;
            let is_measured = |profile: &Arc<RoutingProfile>| profile.spec.needs.objective == Objective::Latency;
            if !context.profiles.all().iter().any(is_measured) {
                continue;
            }
            let choices = match context.gateways.stats(None).try_collect().await {
                Ok(gateways) => choices(gateways),
                Err(error) => {
                    debug!(%error, "a gateway can't be asked what it chose for profiles");
                    continue;
                }
            };
            if **said.load() != choices {
                said.store(Arc::new(choices));
                return Some(((), (context, said)));
            }
        }
    })
}

fn choices(gateways: Vec<GatewayStats>) -> Choices {
    let mut all: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for gateway in gateways {
        let profiles = all.entry(gateway.namespace).or_default();
        for choice in gateway.choices {
            profiles.entry(choice.profile).or_default().push(choice.model);
        }
    }
    let agreements = |profiles: BTreeMap<String, Vec<String>>| {
        profiles.into_iter().filter_map(|(name, models)| Some((name, Agreement::of(models)?))).collect()
    };
    all.into_iter().map(|(namespace, profiles)| (namespace, agreements(profiles))).collect()
}
