//! Headers of HTTP: what is asked for, what is sent, how to log in, when to come back.

use std::time::Duration;

use drover::domain::http::{Challenge, NoSuchBytes, challenges, content_range, requested, retry_after};
use jiff::Timestamp;
use proptest::prelude::*;

proptest! {
    #[test]
    fn no_header_makes_reading_panic(text in ".{0,60}", near in "[a-z=\", 0-9\\\\-]{0,40}", size in any::<u64>()) {
        for text in [text, near, String::from("bytes=18446744073709551615-18446744073709551615")] {
            drop(challenges(&text));
            let sent = content_range(&text);
            prop_assert!(sent.is_none_or(|(range, size)| range.start < range.end && range.end <= size));
            prop_assert!(retry_after(&text, Timestamp::UNIX_EPOCH).is_none_or(|wait| wait.as_secs() <= 3600));
            if let Ok(Some(range)) = requested(Some(&text), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }

    #[test]
    fn a_range_is_read_as_it_was_written(first in 0..1000u64, length in 1..1000u64, size in 1..3000u64) {
        let header = format!("bytes={first}-{}", first + length - 1);
        let expected = if first < size { Ok(Some(first..(first + length).min(size))) } else { Err(NoSuchBytes) };
        prop_assert_eq!(requested(Some(&header), size), expected);
    }

    #[test]
    fn a_content_range_is_read_as_it_was_written(first in 0..1000u64, length in 1..1000u64, more in 0..1000u64) {
        let size = first + length + more;
        let header = format!("bytes {first}-{}/{size}", first + length - 1);
        prop_assert_eq!(content_range(&header), Some((first..first + length, size)));
        let beyond = format!("bytes {first}-{}/{}", first + length, first + length);
        prop_assert_eq!(content_range(&beyond), None);
    }

    #[test]
    fn seconds_to_wait_are_seconds_up_to_an_hour(seconds in any::<u32>()) {
        let wait = retry_after(&seconds.to_string(), Timestamp::UNIX_EPOCH);
        prop_assert_eq!(wait, Some(Duration::from_secs(u64::from(seconds).min(3600))));
    }

    #[test]
    fn a_challenge_is_read_as_it_was_written(realm in "[ -~&&[^\"\\\\]]{0,30}", scope in "[a-z:/,]{0,20}") {
        let header = format!(r#"Basic realm="a, b", Bearer realm="{realm}",service="s",scope="{scope}""#);
        let bearer = Challenge::Bearer { realm, service: "s".into(), scope };
        prop_assert_eq!(challenges(&header), vec![Challenge::Basic, bearer]);
    }
}

#[test]
fn dates_to_come_back_at_are_read() {
    let now: Timestamp = "1994-11-06T08:49:00Z".parse().expect("a time");
    assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
    assert_eq!(retry_after("Sun, 06 Nov 1994 08:40:00 GMT", now), Some(Duration::ZERO), "it is past");
    assert_eq!(retry_after("Sat, 06 Nov 2094 08:40:00 GMT", now), Some(Duration::from_secs(3600)));
    assert_eq!(retry_after("soon", now), None);
}

#[test]
fn challenges_of_known_registries_are_read() {
    let bearer = |realm: &str, service: &str, scope: &str| Challenge::Bearer {
        realm: realm.into(),
        service: service.into(),
        scope: scope.into(),
    };
    let table = [
        (
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#,
            vec![bearer("https://auth.docker.io/token", "registry.docker.io", "repository:a/b:pull")],
        ),
        (r#"bearer realm=https://a/t , service=s"#, vec![bearer("https://a/t", "s", "")]),
        (r#"Basic realm="Registry""#, vec![Challenge::Basic]),
        ("Basic", vec![Challenge::Basic]),
        ("Negotiate", vec![]),
        ("", vec![]),
    ];
    for (header, expected) in table {
        assert_eq!(challenges(header), expected, "{header}");
    }
}
