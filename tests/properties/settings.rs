//! Settings: who wins, and what is said about bad values.

use std::collections::BTreeMap;

use drover::settings::{Faults, Layer, Origin, SETTINGS, Settings, from_environment, from_file, layered};
use proptest::{collection::vec, prelude::*};

const NOTHING: Layer = Layer::new();
/// Settings that not every text is good enough for, each with a bad value.
const BAD: [(&str, &str); 34] = [
    ("log-format", "xml"),
    ("health-listen", "localhost"),
    ("drain-timeout", "soon"),
    ("gateway-listen", "127.0.0.1"),
    ("gateways", "ftp://gateway:1"),
    ("probe-interval", "1ms"),
    ("mirror-offer", "a/b/c/d"),
    ("queue-timeout", "5"),
    ("queue-length", "0"),
    ("otlp-endpoint", "collector:4318"),
    ("truncation", "sometimes"),
    ("max-pulls", "0"),
    ("mirror-url", "mirror:11437"),
    ("mirror-advertise", "http://mirror:11437/v2"),
    ("mirror-listen", "11437"),
    ("mirror-cache-size", "much"),
    ("mirror-bandwidth", "1 MB/s"),
    ("mirror-open", "yes"),
    ("upstream", "team=registry.example"),
    ("records-sync", "always"),
    ("records-max-age", "30 days"),
    ("records-max-size", "big"),
    ("records-when-down", "wait"),
    ("records-capture", "yes"),
    ("management-open", "1"),
    ("listen", "localhost"),
    ("api-port", "65536"),
    ("gateway-port", "-1"),
    ("cockpit-port", "x"),
    ("mirror-port", "127.0.0.1:1"),
    ("health-port", ""),
    ("node", "gpu-1"),
    ("api-sync", "never"),
    ("model-default", "quick=llama3.2:1b"),
];

fn variable(name: &str) -> String {
    format!("DROVER_{}", name.to_uppercase().replace('-', "_"))
}

/// For every setting, which of file, environment and flags give it.
fn givers() -> impl Strategy<Value = Vec<[bool; 3]>> {
    vec(any::<[bool; 3]>(), SETTINGS.len())
}

proptest! {
    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file(givers in givers()) {
        let (mut file, mut variables, mut flags) = (String::new(), Vec::new(), Layer::new());
        for (setting, [in_file, in_environment, in_flags]) in SETTINGS.iter().zip(&givers) {
            let name = setting.name;
            if *in_file {
                file.push_str(&format!("{name}: file-{name}\n"));
            }
            if *in_environment {
                variables.push((variable(name), format!("environment-{name}")));
            }
            if *in_flags {
                flags.insert(name.into(), format!("flag-{name}"));
            }
        }
        let file = from_file(&file).expect("a good file");
        let environment = from_environment(variables.into_iter());
        let values = layered(&file, &environment, &flags);
        prop_assert_eq!(values.len(), SETTINGS.len());
        for (setting, givers) in SETTINGS.iter().zip(&givers) {
            let name = setting.name;
            let expected = match givers {
                [_, _, true] => (format!("flag-{name}"), Origin::Flag),
                [_, true, _] => (format!("environment-{name}"), Origin::Environment),
                [true, ..] => (format!("file-{name}"), Origin::File),
                _ => (setting.default.to_owned(), Origin::Default),
            };
            prop_assert_eq!(&values[name], &expected);
        }
    }

    #[test]
    fn every_fault_is_named_at_once_with_where_it_was_given(chosen in any::<[u8; 31]>()) {
        let mut layers = [Layer::new(), Layer::new(), Layer::new()];
        let mut expected = Vec::new();
        for ((name, value), choice) in BAD.iter().zip(chosen) {
            let place = usize::from(choice % 4);
            if let Some(layer) = layers.get_mut(place) {
                layer.insert((*name).into(), (*value).into());
                expected.push(format!("{name} = {value:?} ({})", ["file", "environment", "flag"][place]));
            }
        }
        match Settings::new(&layered(&layers[0], &layers[1], &layers[2])) {
            Ok(_) => prop_assert!(expected.is_empty(), "{expected:?} went unnoticed"),
            Err(Faults(faults)) => {
                prop_assert_eq!(faults.len(), expected.len(), "{:?}", faults);
                for start in &expected {
                    prop_assert!(faults.iter().any(|fault| fault.starts_with(start.as_str())), "{start} in {faults:?}");
                }
            }
        }
    }

    #[test]
    fn unknown_keys_are_refused_all_of_them(keys in prop::collection::btree_set("x[a-z]{1,8}", 1..5)) {
        let text: String = keys.iter().map(|key| format!("{key}: 1\n")).collect();
        let Err(Faults(faults)) = from_file(&text) else { return Err(TestCaseError::fail("it was taken")) };
        prop_assert_eq!(faults.len(), keys.len());
        for (fault, key) in faults.iter().zip(&keys) {
            prop_assert!(fault.contains(key.as_str()), "{fault}");
        }
    }

    #[test]
    fn no_text_makes_reading_panic(text in ".{0,60}", values in vec(".{0,20}", SETTINGS.len())) {
        drop(from_file(&text));
        let layer = SETTINGS.iter().map(|setting| setting.name.to_owned()).zip(values).collect();
        drop(Settings::new(&layered(&NOTHING, &NOTHING, &layer)));
    }

    #[test]
    fn good_values_arrive(
        port in 1..u16::MAX, seconds in 1..10_000u64, hosts in vec("[a-z]{1,9}", 0..4), dir in "(/[a-z]{1,5}){0,3}",
    ) {
        let gateways: Vec<String> = hosts.iter().map(|host| format!("http://{host}:{port}")).collect();
        let given = [
            ("gateway-listen", format!("0.0.0.0:{port}")),
            ("queue-timeout", format!("{seconds}s")),
            ("probe-interval", format!("{seconds}s")),
            ("drain-timeout", format!("{seconds}ms")),
            ("gateways", gateways.join(" , ")),
            ("data-dir", dir.clone()),
            ("namespace", "models".to_owned()),
            ("log-format", "json".to_owned()),
        ];
        let layer: Layer = given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let settings = Settings::new(&layered(&NOTHING, &layer, &NOTHING)).expect("good values");
        prop_assert_eq!(settings.gateway_listen.port(), port);
        prop_assert_eq!(settings.queue_timeout.as_secs(), seconds);
        prop_assert_eq!(settings.probe_interval.as_secs(), seconds);
        prop_assert_eq!(settings.drain_timeout.as_millis(), u128::from(seconds));
        prop_assert_eq!(settings.gateways, gateways);
        prop_assert_eq!(settings.data_dir.map(|dir| dir.display().to_string()), Some(dir).filter(|dir| !dir.is_empty()));
        prop_assert_eq!(settings.namespace.as_deref(), Some("models"));
    }
}

#[test]
fn the_defaults_are_good_and_each_setting_has_its_help() {
    let values = layered(&NOTHING, &NOTHING, &NOTHING);
    assert!(Settings::new(&values).is_ok());
    let names: BTreeMap<_, _> = SETTINGS.iter().map(|setting| (setting.name, setting.help)).collect();
    assert_eq!(names.len(), SETTINGS.len(), "two settings with one name");
    assert!(names.values().all(|help| !help.is_empty()));
}

#[test]
fn the_password_of_a_database_is_never_repeated() {
    let layer = |url: &str| Layer::from([("records".to_owned(), url.to_owned())]);
    let read = |url: &str| Settings::new(&layered(&NOTHING, &NOTHING, &layer(url)));
    let settings = read("postgres://drover:secret@db.example:5432/runs").expect("a good URL");
    assert!(settings.records.is_some() && !format!("{settings:?}").contains("secret"), "{settings:?}");
    for bad in ["mysql://drover:secret@db.example/runs", "postgres://drover:secret@db.example:port/runs"] {
        let Err(Faults(faults)) = read(bad) else { panic!("{bad} was taken") };
        assert!(faults.len() == 1 && faults[0].starts_with("records (flag): write postgres://"), "{faults:?}");
        assert!(!faults[0].contains("secret"), "{faults:?}");
    }
}

#[test]
fn a_file_holds_one_value_for_each_key() {
    assert_eq!(from_file(""), Ok(NOTHING));
    assert_eq!(from_file("# nothing\n"), Ok(NOTHING));
    let Err(Faults(faults)) = from_file("gateways: [a, b]\nnamespace: {a: b}\ndata-dir:\n") else { panic!("taken") };
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(from_file("- a\n").is_err() && from_file("a: b: c").is_err());
}

#[test]
fn gateways_with_credentials_are_refused() {
    let layer = Layer::from([("gateways".to_owned(), "http://user:pass@gateway:1".to_owned())]);
    assert!(Settings::new(&layered(&NOTHING, &NOTHING, &layer)).is_err());
}
