//! What callers may do: their allowances, shares of limits, and the models that they may use.

use std::time::Duration;

use drover::domain::caller::{Allowance, Exceeded, Limit, Limits, ModelPatterns, RequireKey};
use proptest::{collection::vec, prelude::*};

const MINUTE: Duration = Duration::from_secs(60);

fn limit() -> impl Strategy<Value = u32> {
    prop_oneof![1..20u32, 1..1_000_000_000u32]
}

fn requests(most: u32) -> Limits {
    Limits { requests_per_minute: Some(most), ..Limits::default() }
}

proptest! {
    #[test]
    fn no_more_requests_begin_than_a_minute_and_the_time_since_allow(
        most in 1..50u32, waits in vec(0..5_000u64, 1..200),
    ) {
        let (limits, mut allowance, mut now, mut begun) = (requests(most), Allowance::default(), Duration::ZERO, 0u128);
        for wait in waits {
            now += Duration::from_millis(wait);
            if allowance.begin(&limits, now).is_ok() {
                begun += 1;
                allowance.end();
            }
            let allowed = u128::from(most) + now.as_nanos() * u128::from(most) / MINUTE.as_nanos();
            prop_assert!(begun <= allowed, "{begun} of {allowed}");
        }
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_the_next_one_when_it_is_said(most in 1..3_000u32) {
        let (limits, mut allowance) = (requests(most), Allowance::default());
        for _ in 0..most {
            prop_assert!(allowance.begin(&limits, Duration::ZERO).is_ok());
        }
        let refused = allowance.begin(&limits, Duration::ZERO);
        let Err(Exceeded { limit: Limit::Requests, most: said, retry_after }) = refused else {
            panic!("{refused:?}");
        };
        prop_assert_eq!(said, most);
        let just_before = retry_after - Duration::from_nanos(1);
        prop_assert!(allowance.clone().begin(&limits, just_before).is_err());
        prop_assert!(allowance.begin(&limits, retry_after).is_ok());
    }

    #[test]
    fn whoever_owes_tokens_waits_until_that_is_made_up_for(most in limit(), spent in 0..10_000_000_000u64) {
        let limits = Limits { tokens_per_minute: Some(most), ..Limits::default() };
        let mut allowance = Allowance::default();
        prop_assert!(allowance.begin(&limits, Duration::ZERO).is_ok());
        allowance.spend(&limits, spent, Duration::ZERO);
        allowance.end();
        match allowance.clone().begin(&limits, Duration::ZERO) {
            Ok(()) => prop_assert!(spent < u64::from(most)),
            Err(Exceeded { limit, retry_after, .. }) => {
                prop_assert_eq!(limit, Limit::Tokens);
                prop_assert!(spent >= u64::from(most));
                prop_assert!(allowance.clone().begin(&limits, retry_after).is_ok());
                prop_assert!(allowance.begin(&limits, retry_after - Duration::from_nanos(1)).is_err());
            }
        }
    }

    #[test]
    fn never_more_are_under_way_than_may_be(most in 1..10u32, begins in vec(any::<bool>(), 1..100)) {
        let limits = Limits { max_concurrent_requests: Some(most), ..Limits::default() };
        let (mut allowance, mut under_way) = (Allowance::default(), 0);
        for begins in begins {
            if !begins {
                allowance.end();
                under_way = under_way.max(1) - 1;
            } else if allowance.begin(&limits, Duration::ZERO).is_ok() {
                under_way += 1;
            } else {
                prop_assert_eq!(under_way, most);
            }
            prop_assert_eq!(allowance.under_way(), under_way);
            prop_assert!(under_way <= most);
        }
    }

    #[test]
    fn a_refused_request_counts_as_nothing(
        most in 1..100u32, spent in 0..1_000u64, now in 0..1_000_000u64,
    ) {
        let limits = Limits {
            requests_per_minute: Some(most), tokens_per_minute: Some(most), max_concurrent_requests: Some(most),
        };
        let (mut allowance, now) = (Allowance::default(), Duration::from_millis(now));
        allowance.spend(&limits, spent, now);
        while allowance.begin(&limits, now).is_ok() {}
        let before = allowance.clone();
        prop_assert!(allowance.begin(&limits, now).is_err());
        prop_assert_eq!(allowance, before);
    }

    #[test]
    fn shares_are_parts_of_the_whole_and_never_nothing(most in limit(), gateways in 0..50u32) {
        let whole = Limits {
            requests_per_minute: Some(most), tokens_per_minute: None, max_concurrent_requests: Some(most),
        };
        let share = whole.share(gateways);
        prop_assert_eq!(share.tokens_per_minute, None);
        for part in [share.requests_per_minute, share.max_concurrent_requests] {
            let part = part.expect("a limit stays one");
            prop_assert!(part >= 1);
            prop_assert!(part == 1 || u64::from(part) * u64::from(gateways.max(1)) <= u64::from(most));
            prop_assert!((u64::from(part) + 1) * u64::from(gateways.max(1)) > u64::from(most));
        }
    }

    #[test]
    fn nothing_that_is_written_as_a_pattern_or_a_name_breaks_it(patterns in vec(".{0,20}", 0..5), name in ".{0,30}") {
        if let Ok(patterns) = ModelPatterns::new(&patterns) {
            let _ = patterns.fit(&name);
        }
    }

    #[test]
    fn a_name_without_signs_of_a_pattern_fits_itself_alone(name in "[a-z0-9./:-]{1,30}", other in "[a-z0-9./:-]{1,30}") {
        let patterns = ModelPatterns::new(std::slice::from_ref(&name)).expect("a pattern");
        prop_assert!(patterns.fit(&name) && patterns.fit(&name.to_uppercase()));
        prop_assert_eq!(patterns.fit(&other), other == name);
    }
}

#[test]
fn patterns_are_of_whole_names() {
    let fit = |pattern: &str, name: &str| ModelPatterns::new(&[pattern.to_owned()]).expect("a pattern").fit(name);
    for (pattern, name, expected) in [
        ("*", "team/llama:1", true),
        ("llama3.2:*", "llama3.2:3b", true),
        ("llama3.2:*", "llama3.2", false),
        ("llama3.2:*", "xllama3.2:3b", false),
        ("team/*", "team/a/b:1", true),
        ("bot-[ab]", "bot-b", true),
        ("{bot,chat}-*", "chat-1", true),
        ("", "bot", false),
    ] {
        assert_eq!(fit(pattern, name), expected, "{pattern} {name}");
    }
    assert!(ModelPatterns::new(&["[".to_owned()]).is_err_and(|error| error.contains("\"[\"")));
    assert!(!ModelPatterns::new(&[]).expect("no pattern").fit("bot"));
}

#[test]
fn who_is_asked_for_a_key() {
    for (name, local, remote) in [("nobody", false, false), ("remote", false, true), ("everybody", true, true)] {
        let policy: RequireKey = name.parse().expect("a policy");
        assert_eq!((policy.asks(true), policy.asks(false)), (local, remote), "{name}");
    }
    assert!("anyone".parse::<RequireKey>().is_err());
    assert_eq!(RequireKey::default(), RequireKey::Remote);
}
