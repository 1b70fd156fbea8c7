//! Which model suits a task: needs, and who meets them.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Model;
use crate::domain::model_db::{Capabilities, Capability, Parameters};

/// What decides between models that all suit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The biggest model.
    #[default]
    Quality,
    /// The one that answered soonest of late; as long as nobody knows, the smallest.
    Latency,
    /// The cheapest one; of those that cost the same, the biggest.
    Cost,
}

/// What a task needs of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Needs {
    /// What it must be able to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub capabilities: Vec<Capability>,
    /// The context that it must have at least, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_context: Option<u32>,
    /// Families, or names of models without tags, the dearest first. Others come after them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    pub families: Vec<String>,
    /// How many parameters it may have at most, such as `14B`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parameters: Option<Parameters>,
    /// How many it must have at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_parameters: Option<Parameters>,
    /// Bits per weight that it may have at most: 4 for `Q4_K_M`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub max_bits: Option<u8>,
    /// Bits per weight that it must have at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub min_bits: Option<u8>,
    /// Words that it must have as tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    pub tags: Vec<String>,
    /// Models that come first, whatever their size and family, as long as they can be called and do what is needed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub overrides: Vec<String>,
    /// What decides between those that suit.
    pub objective: Objective,
    /// By how many percent another model must be faster before it takes over, so that the choice doesn't flap.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 90))]
    pub hysteresis: Option<u8>,
    /// The profile whose models come after these.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub fallback_profile: Option<String>,
}

/// One thing that a model lacks.
#[derive(Clone, Debug, PartialEq)]
pub enum Lack {
    /// It can't be called.
    Absent(String),
    /// What it can't do.
    Capabilities(Capabilities),
    /// Its context is too short.
    Context(u64, u32),
    /// It is too big, or nobody knows how big.
    TooBig(Option<Parameters>, Parameters),
    /// It is too small, or nobody knows how big.
    TooSmall(Option<Parameters>, Parameters),
    /// Its bits per weight don't suit.
    Bits(Option<u8>),
    /// It hasn't this tag.
    Tag(String),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size =
            |size: &Option<Parameters>| size.map_or("of unknown size".into(), |size| format!("{size} parameters"));
        match self {
            Self::Absent(why) => f.write_str(why),
            Self::Capabilities(lacking) => write!(f, "it lacks {lacking}"),
            Self::Context(has, needed) => write!(f, "its context of {has} tokens is less than {needed}"),
            Self::TooBig(has, most) => write!(f, "{}, at most {most} are wanted", size(has)),
            Self::TooSmall(has, least) => write!(f, "{}, at least {least} are wanted", size(has)),
            Self::Bits(Some(bits)) => write!(f, "{bits} bits per weight are not wanted"),
            Self::Bits(None) => f.write_str("nobody knows its bits per weight"),
            Self::Tag(tag) => write!(f, "it has no tag {tag}"),
        }
    }
}

impl Needs {
    /// What it must be able to do.
    pub fn floor(&self) -> Capabilities {
        self.capabilities.iter().copied().collect()
    }

    /// What keeps a model from doing the work at all, whoever asks for it by name; nothing: it can.
    pub fn hindrances(&self, model: &Model, floor: Capabilities) -> Vec<Lack> {
        let lacking = self.floor().and(floor).without(model.capabilities);
        let context = self.min_context.filter(|least| model.context_length < u64::from(*least));
        let absent = model.absence.iter().map(|absence| Lack::Absent(absence.why().to_owned()));
        let lacking = (!lacking.is_empty()).then_some(Lack::Capabilities(lacking));
        absent.chain(lacking).chain(context.map(|least| Lack::Context(model.context_length, least))).collect()
    }

    /// Whether a model meets every need.
    pub fn are_met_by(&self, model: &Model, floor: Capabilities) -> bool {
        model.absence.is_none()
            && self.floor().and(floor).without(model.capabilities).is_empty()
            && self.min_context.is_none_or(|least| model.context_length >= u64::from(least))
            && self.max_parameters.is_none_or(|most| model.parameters.is_some_and(|has| has <= most))
            && self.min_parameters.is_none_or(|least| model.parameters.is_some_and(|has| has >= least))
            && self.suits_bits(model)
            && self.tags.iter().all(|tag| model.tags.contains(tag))
    }

    /// All that a model lacks; nothing: it is eligible.
    pub fn lacks(&self, model: &Model, floor: Capabilities) -> Vec<Lack> {
        let mut lacks = self.hindrances(model, floor);
        let has = model.parameters;
        let too_big = self.max_parameters.filter(|most| has.is_none_or(|has| has > *most));
        let too_small = self.min_parameters.filter(|least| has.is_none_or(|has| has < *least));
        lacks.extend(too_big.map(|most| Lack::TooBig(has, most)));
        lacks.extend(too_small.map(|least| Lack::TooSmall(has, least)));
        lacks.extend((!self.suits_bits(model)).then_some(Lack::Bits(model.bits)));
        lacks.extend(self.tags.iter().filter(|tag| !model.tags.contains(tag)).cloned().map(Lack::Tag));
        lacks
    }

    fn suits_bits(&self, model: &Model) -> bool {
        self.max_bits.is_none_or(|most| model.bits.is_some_and(|has| has <= most))
            && self.min_bits.is_none_or(|least| model.bits.is_some_and(|has| has >= least))
    }

    /// The place of a model's family among the preferred ones.
    fn rank(&self, model: &Model) -> usize {
        let is = |family: &String| model.families.iter().any(|own| own.eq_ignore_ascii_case(family));
        self.families.iter().position(is).unwrap_or(self.families.len())
    }
}

/// The models in the order of one objective, best first, by place. What is as good goes by name, so that the order of
/// the list doesn't matter.
pub fn order(models: &[Model], objective: Objective) -> Vec<u32> {
    // Of unknown size is behind the others, whichever way they are sorted.
    let size = |model: &Model| model.parameters.unwrap_or_default();
    let bits = |model: &Model| model.bits.unwrap_or_default();
    let bigger = |a: &Model, b: &Model| size(b).cmp(&size(a)).then(bits(b).cmp(&bits(a)));
    let least = |model: &Model| model.parameters.map_or(u64::MAX, |size| size.0);
    let cost = |model: &Model| model.price.unwrap_or(f64::MAX);
    let mut places: Vec<u32> = (0..).take(models.len()).collect();
    places.sort_by(|a, b| {
        let (a, b) = (&models[*a as usize], &models[*b as usize]);
        let by = match objective {
            Objective::Quality => bigger(a, b),
            Objective::Latency => least(a).cmp(&least(b)).then(bits(a).cmp(&bits(b))),
            Objective::Cost => cost(a).total_cmp(&cost(b)).then_with(|| bigger(a, b)),
        };
        by.then_with(|| a.name.cmp(&b.name))
    });
    places
}

/// The models that meet the needs, of those in `order`: by preferred family, then as they come. With it how many of them
/// are as dear as the first.
pub fn eligible(needs: &Needs, models: &[Model], order: &[u32], floor: Capabilities) -> (Vec<u32>, usize) {
    let fitting = order.iter().copied().filter(|place| needs.are_met_by(&models[*place as usize], floor));
    if needs.families.is_empty() {
        let all: Vec<u32> = fitting.collect();
        let lead = all.len();
        return (all, lead);
    }
    let mut tiers: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for place in fitting {
        tiers.entry(needs.rank(&models[place as usize])).or_default().push(place);
    }
    let lead = tiers.values().next().map_or(0, Vec::len);
    (tiers.into_values().flatten().collect(), lead)
}

/// How many percent faster another model must be, unless a profile says so itself.
pub const HYSTERESIS: u8 = 20;

/// Which of some models to take by what is known of their latencies, in any unit: the fastest one, but `present` stays
/// as long as none is faster by `hysteresis` percent. Models that nobody measured come after those, in their order.
pub fn fastest(present: Option<u32>, measured: &[(u32, Option<f64>)], hysteresis: u8) -> Option<u32> {
    let known = measured.iter().filter_map(|(place, latency)| Some((*place, (*latency)?)));
    let best = known.min_by(|(_, a), (_, b)| a.total_cmp(b));
    let Some((best, latency)) = best else {
        let stays = present.filter(|present| measured.iter().any(|(place, _)| place == present));
        return stays.or(measured.first().map(|(place, _)| *place));
    };
    let own = measured.iter().find(|(place, _)| Some(*place) == present).and_then(|(_, latency)| *latency);
    match own {
        Some(own) if latency >= own * (1.0 - f64::from(hysteresis) / 100.0) => present,
        _ => Some(best),
    }
}

/// The profiles that there are without anybody's doing. An object of that name replaces one.
pub fn builtin() -> [(&'static str, Needs); 6] {
    use Capability::{Chat, Code, Embedding, Vision};
    let needs = |capability| Needs { capabilities: vec![capability], ..Needs::default() };
    let most = |billions: u64| Some(Parameters(billions * 1_000_000_000));
    [
        (
            "fast",
            Needs {
                objective: Objective::Latency,
                max_parameters: most(5),
                fallback_profile: Some("general".into()),
                ..needs(Chat)
            },
        ),
        ("general", needs(Chat)),
        ("code", Needs { families: vec!["qwen-coder".into(), "deepseek".into(), "codellama".into()], ..needs(Code) }),
        ("creative", Needs { families: vec!["llama".into(), "mistral".into(), "gemma".into()], ..needs(Chat) }),
        ("vision", needs(Vision)),
        ("embedding", Needs { objective: Objective::Latency, ..needs(Embedding) }),
    ]
}
