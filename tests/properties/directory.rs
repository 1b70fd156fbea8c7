//! What names stand for: whatever is declared, a request gets a model that is there and can do what is needed, or hears
//! of each one what it lacks.

use std::collections::{BTreeMap, BTreeSet};

use drover::domain::{
    directory::{
        Absence, Agreement, ChainSpec, Declared, Directory, End, Failure, Model, Needs, Object, Objective, Outcome,
        Place, Pointer, ProfileSpec, StepSpec, Stop, WorkerSpec, fastest, walk,
    },
    model_db::{Capabilities, Capability, Parameters},
    reference::{Kind, Reference, nearest},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;

fn model(name: &str) -> Model {
    Model {
        name: name.into(),
        place: Place::Tag(format!("registry.ollama.ai/library/{name}")),
        families: vec!["llama".into()],
        context_length: 8192,
        capabilities: Capabilities::of(&[Capability::Chat, Capability::Json]),
        parameters: Some(Parameters(1_000_000_000)),
        bits: Some(4),
        tags: Vec::new(),
        price: Some(0.0),
        identity: format!("sha256:{name}"),
        absence: None,
    }
}

prop_compose! {
    fn some_model(number: usize)(
        family in select(vec!["llama", "qwen", "gemma"]),
        context in select(vec![2048u64, 8192, 131_072]),
        vision in any::<bool>(),
        code in any::<bool>(),
        size in prop::option::of(1u64..100),
        bits in prop::option::of(select(vec![4u8, 8, 16])),
        price in prop::option::of(0u32..10),
        there in prop::bool::weighted(0.7),
    ) -> Model {
        let more = [(vision, Capability::Vision), (code, Capability::Code)];
        let more: Capabilities = more.into_iter().filter(|(has, _)| *has).map(|(_, capability)| capability).collect();
        Model {
            families: vec![family.into()],
            context_length: context,
            capabilities: model("x").capabilities.and(more),
            parameters: size.map(|size| Parameters(size * 1_000_000_000)),
            bits,
            price: price.map(f64::from),
            absence: (!there).then(|| Absence::Unavailable("gpu-2 is away".into())),
            ..model(&format!("m{number}:latest"))
        }
    }
}

fn models() -> impl Strategy<Value = Vec<Model>> {
    (0usize..9).prop_flat_map(|count| (0..count).map(some_model).collect::<Vec<_>>())
}

prop_compose! {
    fn needs()(
        capabilities in prop::sample::subsequence(vec![Capability::Vision, Capability::Code, Capability::Chat], 0..=3),
        min_context in prop::option::of(select(vec![4096u32, 65_536])),
        families in prop::sample::subsequence(vec!["qwen".to_owned(), "llama".to_owned()], 0..=2).prop_shuffle(),
        most in prop::option::of(1u64..100),
        least in prop::option::of(1u64..20),
        min_bits in prop::option::of(select(vec![4u8, 8])),
        objective in select(vec![Objective::Quality, Objective::Latency, Objective::Cost]),
    ) -> Needs {
        let size = |billions: Option<u64>| billions.map(|billions| Parameters(billions * 1_000_000_000));
        Needs {
            capabilities,
            min_context,
            families,
            max_parameters: size(most),
            min_parameters: size(least),
            min_bits,
            objective,
            ..Needs::default()
        }
    }
}

fn object<T>(name: &str, spec: T) -> Object<T> {
    Object { name: name.into(), since: None, spec }
}

fn profile(needs: Needs) -> ProfileSpec<Value> {
    ProfileSpec { needs, parameters: BTreeMap::new() }
}

fn step(target: &str) -> StepSpec<Value> {
    StepSpec { target: target.into(), ..StepSpec::default() }
}

fn chain(targets: &[&str]) -> ChainSpec<Value> {
    ChainSpec { steps: targets.iter().map(|target| step(target)).collect(), ..ChainSpec::default() }
}

fn with_profile(models: Vec<Model>, needs: Needs) -> Directory<Value> {
    Directory::new(&Declared { models, profiles: vec![object("task", profile(needs))], ..Declared::default() })
}

fn task() -> Pointer {
    Pointer::Profile("task".into())
}

fn names(directory: &Directory<Value>, pointer: &Pointer, floor: Capabilities) -> Result<Vec<String>, String> {
    let ways = directory.ways(pointer, floor, |_| None).map_err(|none| none.to_string())?;
    Ok(ways.iter().map(|way| way.model.name.clone()).collect())
}

fn floor(vision: bool) -> Capabilities {
    if vision { Capabilities::of(&[Capability::Vision]) } else { Capabilities::NONE }
}

proptest! {
    #[test]
    fn router_returns_an_available_model(models in models(), needs in needs(), vision in any::<bool>()) {
        let directory = with_profile(models, needs);
        for way in directory.ways(&task(), floor(vision), |_| None).into_iter().flatten() {
            prop_assert!(way.model.absence.is_none());
        }
    }

    #[test]
    fn required_capabilities_and_minimum_context_are_kept(models in models(), needs in needs(), vision in any::<bool>()) {
        let directory = with_profile(models, needs.clone());
        for way in directory.ways(&task(), floor(vision), |_| None).into_iter().flatten() {
            let wanted = needs.floor().and(floor(vision));
            prop_assert!(wanted.without(way.model.capabilities).is_empty());
            prop_assert!(needs.min_context.is_none_or(|least| way.model.context_length >= u64::from(least)));
            prop_assert!(needs.max_parameters.is_none_or(|most| way.model.parameters.unwrap() <= most));
            prop_assert!(needs.min_bits.is_none_or(|least| way.model.bits.unwrap() >= least));
        }
    }

    #[test]
    fn preferred_family_comes_first(models in models(), needs in needs()) {
        let directory = with_profile(models.clone(), needs.clone());
        let Ok(found) = directory.ways(&task(), Capabilities::NONE, |_| None) else { return Ok(()) };
        let rank = |model: &Model| needs.families.iter().position(|family| model.families.contains(family)).unwrap_or(99);
        let best = models.iter().filter(|model| needs.lacks(model, Capabilities::NONE).is_empty()).map(rank).min();
        prop_assert_eq!(Some(rank(found[0].model)), best);
    }

    #[test]
    fn the_objective_decides_between_those_that_suit(models in models(), needs in needs()) {
        let needs = Needs { families: Vec::new(), ..needs };
        let directory = with_profile(models.clone(), needs.clone());
        let Ok(found) = directory.ways(&task(), Capabilities::NONE, |_| None) else { return Ok(()) };
        let eligible: Vec<_> = models.iter().filter(|model| needs.lacks(model, Capabilities::NONE).is_empty()).collect();
        let first = found[0].model;
        match needs.objective {
            Objective::Quality => prop_assert!(eligible.iter().all(|model| model.parameters <= first.parameters)),
            Objective::Cost => {
                let price = |model: &Model| model.price.unwrap_or(f64::MAX);
                prop_assert!(eligible.iter().all(|model| price(model) >= price(first)));
            }
            Objective::Latency => {
                let size = |model: &Model| model.parameters.map_or(u64::MAX, |size| size.0);
                prop_assert!(eligible.iter().all(|model| size(model) >= size(first)));
            }
        }
    }

    #[test]
    fn decision_is_independent_of_input_order(models in models(), needs in needs(), seed in any::<u64>()) {
        let mut shuffled = models.clone();
        let count = shuffled.len().max(1);
        shuffled.rotate_left(seed as usize % count);
        if seed % 2 == 0 {
            shuffled.reverse();
        }
        let [a, b] = [models, shuffled].map(|models| with_profile(models, needs.clone()));
        prop_assert_eq!(names(&a, &task(), Capabilities::NONE), names(&b, &task(), Capabilities::NONE));
    }

    #[test]
    fn every_no_target_names_every_candidate(models in models(), needs in needs(), vision in any::<bool>()) {
        let directory = with_profile(models.clone(), needs);
        if let Err(message) = names(&directory, &task(), floor(vision)) {
            for model in &models {
                prop_assert!(message.contains(&format!("{}: ", model.name)), "{} in {message}", model.name);
            }
        }
    }

    #[test]
    fn no_target_is_tried_twice_and_vision_is_never_lost(
        models in models(),
        needs in needs(),
        targets in vec(select(vec!["m0", "m1", "m2", "profile/task", "profile/vision", "auto:vision", "auto:fast", "chain/b"]), 1..5),
        inner in vec(select(vec!["m0", "m3", "profile/task", "profile/general"]), 1..3),
        vision in any::<bool>(),
    ) {
        let declared = Declared {
            models: models.clone(),
            profiles: vec![object("task", profile(needs))],
            chains: vec![object("a", chain(&targets)), object("b", chain(&inner))],
            ..Declared::default()
        };
        let directory = Directory::new(&declared);
        let pointer = Pointer::Chain("a".into());
        let Ok(ways) = directory.ways(&pointer, floor(vision), |_| None) else { return Ok(()) };
        let places: BTreeSet<u32> = ways.iter().map(|way| way.place).collect();
        prop_assert_eq!(places.len(), ways.len());
        let sees = |model: &Model| model.capabilities.has(Capability::Vision);
        let begins_with_vision = models.iter().any(|model| targets[0] == model.name.trim_end_matches(":latest") && sees(model));
        if vision || begins_with_vision || targets[0].ends_with("vision") {
            prop_assert!(ways.iter().all(|way| sees(way.model)));
        }
    }

    #[test]
    fn chain_walk_ends_within_its_budget_for_any_failures(
        steps in vec((prop::sample::subsequence(Failure::ALL.to_vec(), 0..=6), any::<bool>()), 0..8),
        failures in prop::collection::btree_map(0usize..8, select(Failure::ALL.to_vec()), 0..8),
        most in 1u32..6,
    ) {
        let stops: Vec<Stop<'_>> =
            steps.iter().map(|(on, is_available)| Stop { on, is_available: *is_available }).collect();
        let (visited, end) = walk(&stops, most, &failures);
        let called: Vec<_> = visited.iter().filter(|(_, outcome)| *outcome != Outcome::Skipped).collect();
        prop_assert!(called.len() <= most as usize);
        prop_assert!(visited.is_sorted_by(|a, b| a.0 < b.0), "no step twice, in their order");
        prop_assert!(called.iter().all(|(at, _)| stops[*at].is_available), "what is not available is not called");
        let answered = called.iter().any(|(_, outcome)| *outcome == Outcome::Answered);
        prop_assert_eq!(answered, end == End::Answered);
        if let End::Stays(failure) = end {
            let (at, _) = called.last().unwrap();
            prop_assert!(!stops[*at].on.is_empty() && !stops[*at].on.contains(&failure));
        }
    }

    #[test]
    fn a_choice_by_latency_does_not_flap(noise in vec(-8.0f64..8.0, 2..40), base in 100.0f64..200.0) {
        let mut present = None;
        let mut changes = 0;
        for pair in noise.windows(2) {
            let measured = [(0, Some(base + pair[0])), (1, Some(base + pair[1]))];
            let next = fastest(present, &measured, 20);
            changes += usize::from(present.is_some() && next != present);
            present = next;
        }
        prop_assert_eq!(changes, 0, "less than 20 % between them");
        prop_assert_eq!(fastest(Some(0), &[(0, Some(base)), (1, Some(base * 0.79))], 20), Some(1));
        prop_assert_eq!(fastest(Some(7), &[(0, Some(base)), (1, None)], 20), Some(0), "the present one is gone");
        prop_assert_eq!(fastest(None, &[(0, None), (1, None)], 20), Some(0));
    }

    #[test]
    fn what_most_gateways_chose_is_shown_and_every_other_choice_is_named(
        choices in vec(select(vec!["a", "b", "c"]), 1..6).prop_map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>()),
        seed in any::<usize>(),
    ) {
        let told = Agreement::of(choices.clone()).expect("somebody chose");
        let votes = |model: &str| choices.iter().filter(|choice| *choice == model).count();
        prop_assert!(choices.iter().all(|choice| votes(choice) <= votes(&told.chosen)));
        let named: BTreeSet<_> = told.others.iter().chain([&told.chosen]).collect();
        prop_assert_eq!(named, choices.iter().collect::<BTreeSet<_>>());
        prop_assert!(!told.others.contains(&told.chosen));
        let (mut others, by) = (choices.clone(), seed % choices.len());
        others.rotate_left(by);
        prop_assert_eq!(Agreement::of(others), Some(told), "whoever was asked first");
        prop_assert_eq!(Agreement::of([]), None);
    }

    #[test]
    fn references_are_read_as_they_are_written(text in "(auto:|deployment/|chain/|profile/|worker/|provider/a/)?[a-z0-9:./-]{0,20}") {
        prop_assert_eq!(Reference::parse(&text).to_string(), text);
    }
}

#[test]
fn references_name_what_they_say() {
    assert_eq!(Reference::parse("worker/docs"), Reference::Object(Kind::Worker, "docs"));
    assert_eq!(Reference::parse("provider/far/meta/llama"), Reference::Provider { name: "far", model: "meta/llama" });
    assert_eq!(Reference::parse("auto:fast"), Reference::Auto("fast"));
    assert_eq!(Reference::parse("team/llama:1"), Reference::Bare("team/llama:1"));
    assert_eq!(nearest("llama3.1:8b", ["llama3.2:8b", "qwen:7b", "llama3.1:70b"]), ["llama3.2:8b", "llama3.1:70b"]);
}

#[test]
fn chains_that_can_not_be_served_are_refused_by_name() {
    let sees = Model { capabilities: Capabilities::of(&[Capability::Chat, Capability::Vision]), ..model("sees:1") };
    let away = Model { absence: Some(Absence::Unavailable("gpu-2 is away".into())), ..model("away:1") };
    let pulled = Model { absence: Some(Absence::NotPulled("ModelPull x is at it".into())), ..model("coming:1") };
    let worker = |model: &str| WorkerSpec { model: model.into(), ..WorkerSpec::default() };
    let declared = Declared {
        models: vec![model("a:1"), model("b:1"), sees, away, pulled],
        chains: vec![
            object("empty", chain(&[])),
            object("circle", chain(&["a:1", "chain/other"])),
            object("other", chain(&["worker/back"])),
            object("missing", chain(&["a:1", "deployment/nobody"])),
            object("unknown", chain(&["nothing:1"])),
            object("unpulled", chain(&["a:1", "coming:1"])),
            object("blind", chain(&["sees:1", "a:1"])),
            object("less", ChainSpec { floor: Capabilities::of(&[Capability::Tools]), ..chain(&["a:1"]) }),
            object("lost", chain(&["worker/lost"])),
            object("fine", chain(&["a:1", "away:1", "b:1", "auto:vision"])),
        ],
        workers: vec![object("back", worker("chain/circle")), object("lost", worker("worker/lost"))],
        ..Declared::default()
    };
    let directory = Directory::new(&declared);
    let rows = [
        ("empty", Some("Empty")),
        ("circle", Some("Cycle")),
        ("other", Some("Cycle")),
        ("missing", Some("TargetMissing")),
        ("unknown", Some("TargetNotPulled")),
        ("unpulled", Some("TargetNotPulled")),
        ("blind", Some("CapabilityLost")),
        ("less", Some("CapabilityLost")),
        ("lost", Some("TargetMissing")),
        ("fine", None),
    ];
    for (name, expected) in rows {
        let chain = &directory.chains[name];
        assert_eq!(chain.fault.as_ref().map(|fault| fault.reason()), expected, "{name}: {:?}", chain.fault);
        let ways = names(&directory, &Pointer::Chain(name.into()), Capabilities::NONE);
        match expected {
            Some(_) => assert!(ways.unwrap_err().contains("is not served"), "{name}"),
            None => assert_eq!(ways.unwrap(), ["a:1", "b:1", "sees:1"], "what is away is skipped"),
        }
    }
    let fault = directory.chains["circle"].fault.as_ref().unwrap().to_string();
    assert!(fault.contains("circle -> other -> circle"), "{fault}");
}

#[test]
fn auto_takes_the_default_first_and_the_best_choice_when_that_is_unset_or_can_not_be_used() {
    let small = Model { parameters: Some(Parameters(500_000_000)), ..model("small:1") };
    let away = Model { absence: Some(Absence::Unavailable("gpu-2 is away".into())), ..model("away:1") };
    let big = Model { parameters: Some(Parameters(4_000_000_000)), ..model("big:1") };
    let auto = |default: Option<&str>| {
        let defaults = default.map(|model| ("fast".to_owned(), model.to_owned())).into_iter().collect();
        let models = vec![small.clone(), away.clone(), big.clone(), model("middle:1")];
        let directory = Directory::new(&Declared::<Value> { models, defaults, ..Declared::default() });
        let ways = directory.ways(&Pointer::Auto("fast".into()), Capabilities::NONE, |_| None).unwrap();
        (ways[0].model.name.clone(), directory.autos["fast"].overrides.join(" "))
    };
    assert_eq!(auto(Some("big:1")), ("big:1".into(), String::new()));
    assert_eq!(auto(None).0, "small:1");
    let (model, note) = auto(Some("away:1"));
    assert_eq!((model.as_str(), note.as_str()), ("small:1", "default away:1: gpu-2 is away"));
    assert_eq!(auto(Some("none:1")).1, "default none:1: there is no such model");
}

#[test]
fn overrides_come_first_and_those_without_effect_are_told() {
    let needs = Needs {
        families: vec!["llama".into()],
        max_parameters: Some(Parameters(2_000_000_000)),
        overrides: vec!["away:1".into(), "huge:1".into()],
        ..Needs::default()
    };
    let away = Model { absence: Some(Absence::Unavailable("gpu-2 is away".into())), ..model("away:1") };
    let huge = Model { parameters: Some(Parameters(70_000_000_000)), families: Vec::new(), ..model("huge:1") };
    let directory = with_profile(vec![model("a:1"), away, huge], needs);
    assert_eq!(names(&directory, &task(), Capabilities::NONE).unwrap(), ["huge:1", "a:1"]);
    assert_eq!(directory.profiles["task"].overrides, ["override away:1: gpu-2 is away"]);
}

#[test]
fn a_fallback_profile_comes_after_and_never_in_a_circle() {
    let to = |next: &str, capability| {
        profile(Needs { fallback_profile: Some(next.into()), capabilities: vec![capability], ..Needs::default() })
    };
    let sees = Model { capabilities: Capabilities::of(&[Capability::Chat, Capability::Vision]), ..model("sees:1") };
    let declared = Declared {
        models: vec![model("a:1"), sees],
        profiles: vec![
            object("code", to("general", Capability::Code)),
            object("sight", to("general", Capability::Vision)),
            object("x", to("y", Capability::Chat)),
            object("y", to("x", Capability::Chat)),
        ],
        ..Declared::default()
    };
    let directory = Directory::new(&declared);
    let of = |name: &str| names(&directory, &Pointer::Profile(name.into()), Capabilities::NONE);
    assert!(of("code").unwrap_err().contains("no model suits"), "a fallback has no fewer capabilities");
    assert_eq!(of("sight").unwrap(), ["sees:1"]);
    assert!(of("x").unwrap_err().contains("x -> y -> x"));
}

#[test]
fn of_two_kinds_with_one_name_the_older_one_has_it() {
    let since = |second: i64| Some(jiff::Timestamp::from_second(second).unwrap());
    let mut declared = Declared {
        models: vec![model("a:1"), Model { place: Place::Deployment("bot".into()), ..model("deployment/bot") }],
        deployments: vec![Object { name: "bot".into(), since: since(2), spec: () }],
        chains: vec![Object { name: "bot".into(), since: since(1), spec: chain(&["a:1"]) }],
        ..Declared::default()
    };
    let directory = Directory::new(&declared);
    assert_eq!(directory.pointer("bot"), Ok(Pointer::Chain("bot".into())));
    assert_eq!(
        (directory.clash(Kind::Deployment, "bot"), directory.clash(Kind::Chain, "bot")),
        (Some(Kind::Chain), None)
    );
    assert!(matches!(directory.pointer("deployment/bot"), Ok(Pointer::Model(_))));
    declared.chains[0].since = since(3);
    let directory = Directory::new(&declared);
    assert!(matches!(directory.pointer("bot"), Ok(Pointer::Model(_))));
    assert_eq!(directory.pointer("chain/bot"), Ok(Pointer::Chain("bot".into())));
}

#[test]
fn workers_resolve_every_reference_and_say_why_not() {
    let worker = |model: &str| WorkerSpec::<Value> { model: model.into(), ..WorkerSpec::default() };
    let sharp = WorkerSpec { floor: Capabilities::of(&[Capability::Vision]), ..worker("auto:fast") };
    let pinned = WorkerSpec {
        pinned: Some("b:1".into()),
        policy: drover::domain::directory::Policy::Static,
        ..worker("auto:fast")
    };
    let declared = Declared {
        models: vec![model("a:1"), model("b:1")],
        defaults: BTreeMap::from([("fast".to_owned(), "a:1".to_owned())]),
        chains: vec![object("c", chain(&["b:1"]))],
        workers: vec![
            object("auto", worker("auto:fast")),
            object("tag", worker("b:1")),
            object("chain", worker("chain/c")),
            object("other", worker("worker/tag")),
            object("typo", worker("a:2")),
            object("sharp", sharp),
            object("pinned", pinned),
            object("set", WorkerSpec { set: Some("b:1".into()), ..worker("auto:fast") }),
        ],
        ..Declared::default()
    };
    let directory = Directory::new(&declared);
    let rows = [
        ("auto", "a:1"),
        ("tag", "b:1"),
        ("chain", "chain/c"),
        ("other", "b:1"),
        ("typo", "did you mean a:1"),
        ("sharp", "it lacks vision"),
        ("pinned", "b:1"),
        ("set", "b:1"),
    ];
    for (name, expected) in rows {
        let worker = &directory.workers[name];
        match &worker.fault {
            None => assert_eq!(worker.resolution.resolved_model, expected, "{name}"),
            Some(fault) => assert!(fault.contains(expected), "{name}: {fault}"),
        }
    }
    let [auto, tag] = ["auto", "tag"].map(|name| &directory.workers[name]);
    let policy = auto.resolution.policy;
    assert_ne!(auto.fingerprint("sha256:a", policy), auto.fingerprint("sha256:b", policy));
    assert_eq!(auto.fingerprint("sha256:a", policy), tag.fingerprint("sha256:a", policy), "parameters are the same");
}
