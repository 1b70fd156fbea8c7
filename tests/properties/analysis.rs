//! The evidence against a canary: what makes its test right, and what makes its counts add up.

use std::time::Duration;

use drover::domain::analysis::{
    Analysis, Batch, Count, Counted, Criterion, Evidence, Hypothesis, Limit, Measure, Observed, Query, Reading,
    Settings, Sketch, bound, bucket, price_bucket,
};
use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, prelude::*};

use crate::sessions::{Sessions, rolled_back};

fn count(of: u64) -> impl Strategy<Value = Count> {
    (0..=of).prop_map(move |bad| Count { of, bad })
}

fn counts() -> impl Strategy<Value = Count> {
    (0..200u64).prop_flat_map(count)
}

fn hypothesis() -> impl Strategy<Value = Hypothesis> {
    let hypothesis = |(ratio, margin)| Hypothesis { ratio, margin };
    prop_oneof![
        (0.0..0.3f64).prop_map(move |margin| hypothesis((1.0, margin))),
        (1.0..3.0f64).prop_map(move |ratio| hypothesis((ratio, 0.0))),
        (0.01..0.5f64).prop_map(move |margin| hypothesis((0.0, margin))),
    ]
}

/// How likely so many bad attempts are.
fn chance(Count { of, bad }: Count, share: f64) -> f64 {
    let ways: f64 = (0..bad).map(|i| (of - i) as f64 / (i + 1) as f64).product();
    ways * share.powi(bad as i32) * (1.0 - share).powi((of - bad) as i32)
}

proptest! {
    /// What Ville's inequality needs: whatever was seen before and whichever innocent shares are true, a batch doesn't
    /// make the bets worth more on average. Every outcome of a small batch is gone through.
    #[test]
    fn no_innocent_canary_gathers_evidence_on_average(
        hypothesis in hypothesis(),
        past in vec((counts(), counts()), 0..4),
        [of_stable, of_canary] in [0..7u64, 0..7u64],
        stable in 0.0..1.0f64,
        part in 0.0..=1.0f64,
    ) {
        let canary = part * (hypothesis.ratio * stable + hypothesis.margin).min(1.0);
        let mut evidence = Evidence::default();
        past.iter().for_each(|(stable, canary)| evidence.add(hypothesis, *stable, *canary));
        // Beyond that a float knows no larger number.
        prop_assume!(evidence.worth() < 1e250);
        let mut mean = 0.0;
        for bad_stable in 0..=of_stable {
            for bad_canary in 0..=of_canary {
                let seen = [Count { of: of_stable, bad: bad_stable }, Count { of: of_canary, bad: bad_canary }];
                let mut after = evidence.clone();
                after.add(hypothesis, seen[0], seen[1]);
                mean += chance(seen[0], stable) * chance(seen[1], canary) * after.worth();
            }
        }
        prop_assert!(mean <= evidence.worth() * (1.0 + 1e-6), "{mean} from {}", evidence.worth());
    }

    #[test]
    fn evidence_is_never_taken_back_and_never_more_than_certain(
        hypothesis in hypothesis(),
        batches in vec((counts(), counts()), 1..20),
    ) {
        let mut evidence = Evidence::default();
        for (stable, canary) in batches {
            let before = evidence.p_value();
            evidence.add(hypothesis, stable, canary);
            prop_assert!((0.0..=before).contains(&evidence.p_value()));
        }
    }

    #[test]
    fn a_duration_is_in_the_first_bucket_that_reaches_it(micros in 1..1_000_000_000u64) {
        let (seconds, found) = (micros as f64 / 1e6, bucket(Duration::from_micros(micros)));
        prop_assert!(bound(found) >= seconds * (1.0 - 1e-9));
        prop_assert!(found == 0 || bound(found - 1) < seconds * (1.0 + 1e-9));
        prop_assert!(found == 0 || bound(found) < seconds * 1.023);
    }

    #[test]
    fn sketches_add_up_and_come_apart_again(a in vec(0..50u64, 0..40), b in vec(0..50u64, 0..40)) {
        let [earlier, added] = [&a, &b].map(|counts| Sketch::new(counts.iter().copied()));
        let mut both = earlier.clone();
        both.merge(&added);
        prop_assert_eq!(both.total(), a.iter().sum::<u64>() + b.iter().sum::<u64>());
        prop_assert_eq!(both.since(&earlier), added);
        let json = serde_json::to_string(&both).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Sketch>(&json).expect("a sketch"), both);
    }

    #[test]
    fn a_quantile_has_its_share_at_or_below_it(counts in vec(0..50u64, 1..60), share in 0.01..0.99f64) {
        let sketch = Sketch::new(counts.iter().copied());
        match sketch.quantile(share) {
            None => prop_assert_eq!(sketch.total(), 0),
            Some(at) => {
                let above = sketch.above(at) as f64 / sketch.total() as f64;
                prop_assert!(above <= 1.0 - share + 1e-9);
                let before = at.checked_sub(1).map_or(sketch.total(), |before| sketch.above(before));
                prop_assert!(before as f64 / sketch.total() as f64 >= 1.0 - share - 1e-9);
            }
        }
    }

    /// However gateways hang, come back, start anew and join: each batch has exactly what they counted since the last one
    /// that they were heard for. Nothing comes twice, and nothing that a gateway still knows is left out for good.
    #[test]
    fn what_a_hanging_gateway_counted_comes_later_and_once(
        looks in vec((vec((0..30u64, 0..10u64, 0..6u8), GATEWAYS), any::<bool>()), 1..30),
    ) {
        let mut gateways: Vec<Counting> = (0..GATEWAYS).map(Counting::new).collect();
        let mut counted = Counted::default();
        for (events, is_used) in looks {
            for (gateway, (stable, canary, event)) in gateways.iter_mut().zip(events) {
                gateway.pass([stable, canary], event);
            }
            let heard: Vec<usize> = (0..GATEWAYS).filter(|at| gateways[*at].answers).collect();
            let now: Reading = heard.iter().map(|at| gateways[*at].tell()).collect();
            counted.meet(&now);
            let batch = counted.batch(&now, "v1", "v2");
            let due = |side: usize| heard.iter().map(|at| gateways[*at].due(side)).sum::<u64>();
            prop_assert_eq!([batch.stable.attempts, batch.canary.attempts], [due(0), due(1)]);
            heard.iter().for_each(|at| gateways[*at].met());
            if is_used {
                counted.settle(now, (GATEWAYS - heard.len()) as u32);
                heard.iter().for_each(|at| gateways[*at].settled());
            }
        }
    }

    #[test]
    fn only_what_both_readings_saw_of_a_gateway_counts(before in 0..100u64, after in 0..100u64, fresh in 0..100u64) {
        let counts = |attempts| [("v1".to_owned(), Observed { attempts, ..Observed::default() })].into();
        let earlier = [("a".to_owned(), counts(before)), ("gone".to_owned(), counts(7))].into();
        let later = [("a".to_owned(), counts(before + after)), ("new".to_owned(), counts(fresh))].into();
        let batch = Batch::between(&earlier, &later, "v1", "v2");
        prop_assert_eq!(batch.stable.attempts, after);
        prop_assert_eq!(batch.canary.attempts, 0);
    }
}

const GATEWAYS: usize = 3;

/// A gateway that counts, and what of it is in no batch yet.
struct Counting {
    place: usize,
    /// How often it started.
    life: u32,
    counts: [u64; 2],
    /// Where the next batch begins; nothing while it was never heard in this life.
    since: Option<[u64; 2]>,
    answers: bool,
}

impl Counting {
    fn new(place: usize) -> Self {
        Self { place, life: 0, counts: [0, 0], since: None, answers: true }
    }

    /// It counts so much, after it started anew (0), hangs from then on (1), or is there again (2).
    fn pass(&mut self, attempts: [u64; 2], event: u8) {
        match event {
            0 => *self = Self { life: self.life + 1, ..Self::new(self.place) },
            1 => self.answers = false,
            2 => self.answers = true,
            _ => {}
        }
        (0..2).for_each(|side| self.counts[side] += attempts[side]);
    }

    fn tell(&self) -> (String, std::collections::BTreeMap<String, Observed>) {
        let of = |side: usize| Observed { attempts: self.counts[side], ..Observed::default() };
        (format!("{}/{}", self.place, self.life), [("v1".to_owned(), of(0)), ("v2".to_owned(), of(1))].into())
    }

    fn due(&self, side: usize) -> u64 {
        self.since.map_or(0, |since| self.counts[side] - since[side])
    }

    fn met(&mut self) {
        self.since.get_or_insert(self.counts);
    }

    fn settled(&mut self) {
        self.since = Some(self.counts);
    }
}

fn settings(measure: Measure, limit: Limit) -> Settings {
    let criteria = vec![Criterion { measure, limit, dry_run: false }];
    Settings {
        interval: Duration::from_secs(30),
        min_requests: 50,
        criteria,
        queries: Vec::new(),
        failure_limit: 2,
        consecutive_successes: 1,
        parts: 1,
    }
}

/// Attempts that took these milliseconds.
fn took(milliseconds: impl IntoIterator<Item = u64>) -> Observed {
    let mut counts = vec![0; 700];
    milliseconds.into_iter().for_each(|ms| counts[bucket(Duration::from_millis(ms))] += 1);
    let attempts = counts.iter().sum();
    let times = Sketch::new(counts);
    Observed { attempts, latency: times.clone(), first_token: times.clone(), token_time: times, ..Observed::default() }
}

/// The measurement that rejects a canary with these times, if one of 40 does.
fn rejected_after(settings: &Settings, stable: impl Fn() -> Observed, canary: impl Fn() -> Observed) -> Option<usize> {
    let mut analysis = Analysis::new("bot-1", 0, false);
    let at = |round: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(30 * round);
    (1..=40).find_map(|round| {
        let batch =
            Batch { rollout_id: "bot-1".into(), at: at(round), stable: stable(), canary: canary(), ..Batch::default() };
        analysis.add(settings, &batch).map(|_| round as usize)
    })
}

#[test]
fn a_slower_canary_is_told_from_one_within_its_limit_by_every_measure_of_time() {
    let measures = [Measure::LatencyP50, Measure::LatencyP95, Measure::TimeToFirstToken, Measure::TokensPerSecond];
    for measure in measures {
        for limit in [Limit::Ratio(1.2), Limit::Increase(0.05)] {
            let settings = settings(measure, limit);
            let stable = || took((0..100).map(|i| 100 + 2 * i));
            let slower = |percent: u64| move || took((0..25).map(move |i| (100 + 8 * i) * percent / 100));
            assert_eq!(rejected_after(&settings, stable, slower(100)), None, "{measure:?} {limit:?}, as fast");
            assert_eq!(rejected_after(&settings, stable, slower(115)), None, "{measure:?} {limit:?}, within");
            let found = rejected_after(&settings, stable, slower(190));
            assert!(found.is_some_and(|round| round < 15), "{measure:?} {limit:?}: {found:?}");
        }
    }
}

#[test]
fn a_limit_of_its_own_needs_no_slower_stable() {
    let settings = settings(Measure::LatencyP95, Limit::Max(0.5));
    let both = |ms: u64| move || took((0..100).map(move |_| ms));
    assert_eq!(rejected_after(&settings, both(400), both(400)), None);
    assert!(rejected_after(&settings, both(800), both(800)).is_some(), "as slow as stable, and too slow");
}

/// Answers whose tokens cost these dollars for 1,000.
fn cost(dollars: impl IntoIterator<Item = f64>) -> Observed {
    let mut counts = vec![0; 737];
    dollars.into_iter().for_each(|dollars| counts[price_bucket(dollars)] += 1);
    Observed { attempts: counts.iter().sum(), price: Sketch::new(counts), ..Observed::default() }
}

#[test]
fn a_dearer_canary_is_told_from_one_within_its_limit_and_what_costs_nothing_from_what_does() {
    // Answers that are long or short have another share of the dearer tokens.
    let mixed = |times: f64| move || cost((0..40).map(move |i| times * (0.0005 + 0.00002 * f64::from(i))));
    for limit in [Limit::Ratio(1.2), Limit::Increase(0.0003)] {
        let settings = settings(Measure::CostPer1kTokens, limit);
        assert_eq!(rejected_after(&settings, mixed(1.0), mixed(1.0)), None, "{limit:?}, as dear");
        assert_eq!(rejected_after(&settings, mixed(1.0), mixed(1.15)), None, "{limit:?}, within");
        assert!(rejected_after(&settings, mixed(1.0), mixed(1.6)).is_some_and(|round| round < 15), "{limit:?}");
    }
    let ratio = settings(Measure::CostPer1kTokens, Limit::Ratio(1.2));
    assert!(rejected_after(&ratio, mixed(0.0), mixed(1.0)).is_some(), "from nodes to a provider");
    assert_eq!(rejected_after(&ratio, mixed(1.0), mixed(0.0)), None, "and back");
    assert_eq!(rejected_after(&ratio, mixed(0.0), mixed(0.0)), None, "nodes ask no money");
    let most = settings(Measure::CostPer1kTokens, Limit::Max(0.001));
    assert_eq!(rejected_after(&most, mixed(0.5), mixed(0.5)), None);
    assert!(rejected_after(&most, mixed(2.0), mixed(2.0)).is_some(), "as dear as stable, and too dear");
    assert_eq!(most.criteria[0].to_string(), "costPer1kTokens at most $0.001");
}

#[test]
fn scores_are_a_share_of_bad_ones() {
    let settings = settings(Measure::FeedbackScore, Limit::Increase(0.1));
    let scores = |rated, disliked| move || Observed { rated, disliked, attempts: 100, ..Observed::default() };
    assert_eq!(rejected_after(&settings, scores(20, 2), scores(5, 0)), None);
    assert_eq!(rejected_after(&settings, scores(20, 2), scores(0, 0)), None, "nobody said anything");
    assert!(rejected_after(&settings, scores(20, 2), scores(5, 3)).is_some());
    let mut analysis = Analysis::new("bot-1", 0, false);
    let batch =
        Batch { rollout_id: "bot-1".into(), stable: scores(20, 2)(), canary: scores(5, 1)(), ..Batch::default() };
    analysis.add(&settings, &batch);
    assert_eq!(analysis.metrics[0].message, "20.0 % of 5 scores were found bad, stable's 10.0 % of 20");
}

#[test]
fn sessions_of_very_different_length_are_no_false_alarm_where_they_count_once() {
    let equal = Sessions { as_units: true, gateways: 1, worse_by: 0.0 };
    let taken_back = |sessions| rolled_back(300, sessions);
    assert!(taken_back(equal) <= 3, "more than 1 % of rollouts of an equal version");
    let by_request = taken_back(Sessions { as_units: false, ..equal });
    assert!(by_request > 15, "by requests only {by_request} of 300: nothing is shown");
    assert!(taken_back(Sessions { worse_by: 0.3, ..equal }) > 290, "a version that is worse gets through");
}

#[test]
fn each_step_has_evidence_and_a_chance_of_error_of_its_own_where_sessions_count() {
    let alone = settings(Measure::ErrorRate, Limit::Increase(0.0));
    let parted = Settings { parts: 100, ..alone.clone() };
    let observed = |attempts, failures| move || Observed { attempts, failures, ..Observed::default() };
    let rounds = [&alone, &parted].map(|settings| rejected_after(settings, observed(80, 4), observed(20, 4)));
    assert!(rounds[0] < rounds[1], "a hundredth of the chance takes longer: {rounds:?}");
    for (settings, stays) in [(alone, true), (parted, false)] {
        let mut analysis = Analysis::new("bot-1", 0, false);
        let batch = Batch {
            rollout_id: "bot-1".into(),
            stable: observed(80, 1)(),
            canary: observed(20, 1)(),
            ..Batch::default()
        };
        analysis.add(&settings, &batch);
        analysis.begin_step(Some(&settings), "bot-1", 1);
        assert_eq!((analysis.step, analysis.requests, !analysis.metrics.is_empty()), (1, 0, stays));
    }
}

#[test]
fn a_query_without_a_number_or_out_of_bounds_begins_the_row_anew() {
    let query = Query { name: "gpu".into(), text: "gpu".into(), min: None, max: Some(0.9), dry_run: false };
    let criteria = Vec::new();
    let settings = Settings { queries: vec![query], criteria, ..settings(Measure::ErrorRate, Limit::Max(0.1)) };
    let mut analysis = Analysis::new("bot-1", 0, false);
    let answers = [Ok(0.5), Ok(0.9), Err("away".to_owned()), Ok(0.1), Ok(0.95), Ok(0.1), Ok(f64::NAN)];
    let rows = answers.into_iter().enumerate().map(|(round, value)| {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(round as i64);
        let values = [("gpu".to_owned(), value)].into();
        analysis.add(&settings, &Batch { rollout_id: "bot-1".into(), at, values, ..Batch::default() });
        analysis.successes
    });
    assert_eq!(rows.collect::<Vec<_>>(), [1, 2, 0, 1, 0, 1, 0]);
}

#[test]
fn the_chance_of_error_is_shared_by_the_measures_that_decide() {
    let mut many = settings(Measure::ErrorRate, Limit::Increase(0.0));
    let observed = |attempts, failures| move || Observed { attempts, failures, ..Observed::default() };
    let alone = rejected_after(&many, observed(80, 4), observed(20, 4)).expect("worse");
    many.criteria.extend([many.criteria[0]; 9]);
    many.criteria.iter_mut().skip(1).for_each(|criterion| criterion.dry_run = true);
    assert_eq!(rejected_after(&many, observed(80, 4), observed(20, 4)), Some(alone), "a dry run has no share");
    many.criteria.iter_mut().for_each(|criterion| criterion.dry_run = false);
    assert!(rejected_after(&many, observed(80, 4), observed(20, 4)).expect("worse") > alone);
}

#[test]
fn a_query_ends_a_canary_after_so_many_answers_out_of_bounds_in_a_row() {
    let query =
        Query { name: "gpu".into(), text: "t{version}-{stable}".into(), min: Some(0.2), max: None, dry_run: false };
    assert_eq!(query.about("v2", "v1"), "tv2-v1");
    let settings = Settings { queries: vec![query], ..settings(Measure::ErrorRate, Limit::Increase(0.02)) };
    let mut analysis = Analysis::new("bot-1", 0, false);
    let answers = [Ok(0.1), Ok(0.3), Ok(0.1), Err("away".to_owned()), Ok(f64::NAN), Ok(0.1)];
    let failures = answers.into_iter().enumerate().map(|(round, value)| {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(round as i64);
        let values = [("gpu".to_owned(), value)].into();
        analysis.add(&settings, &Batch { rollout_id: "bot-1".into(), at, values, ..Batch::default() })
    });
    let mut failures: Vec<Option<String>> = failures.collect();
    let last = failures.pop().flatten().expect("the second in a row: no number says nothing");
    assert_eq!(last, "gpu: 0.1, at least 0.2, 2 times in a row");
    assert!(failures.iter().all(Option::is_none), "{failures:?}");
}
