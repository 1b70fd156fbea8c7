//! Which registry a name leads to.

use drover::domain::upstream::Upstreams;
use proptest::prelude::*;

#[track_caller]
fn check(upstreams: &str, model: &str, insecure: bool, expected: &str) {
    let upstreams: Upstreams = upstreams.parse().expect("upstreams");
    let source = upstreams.source(model, insecure).expect("a source");
    assert_eq!(format!("{} {} {}", source.url, source.repository, source.tag), expected, "{model}");
}

#[test]
fn the_longest_prefix_wins_and_the_name_stays_whole() {
    let all = "=https://default.example,team=https://reg/a/b,team/special=http://special:5000/,hf.co=https://hf.co,\
               reg.example:5000/team=https://inner.example/x";
    check(all, "llama3.2:3b", false, "https://default.example library/llama3.2 3b");
    check(all, "me/bot", true, "https://default.example me/bot latest");
    check(all, "team/foo:1", false, "https://reg a/b/team/foo 1");
    check(all, "TEAM/foo:1", false, "https://reg a/b/TEAM/foo 1");
    check(all, "team/special:1", false, "http://special:5000 team/special 1");
    check(all, "team/special-2:1", false, "https://reg a/b/team/special-2 1");
    check(all, "teams/foo:1", false, "https://default.example teams/foo 1");
    check(all, "hf.co/me/bot:Q4_K_M", false, "https://hf.co me/bot Q4_K_M");
    check(all, "reg.example:5000/team/foo:1", false, "https://inner.example x/team/foo 1");
    check(all, "reg.example:5000/others/foo:1", false, "https://reg.example:5000 others/foo 1");
    check(all, "registry.ollama.ai/library/llama3.2:3b", false, "https://default.example library/llama3.2 3b");
}

#[test]
fn without_upstreams_the_name_says_the_registry() {
    check("", "llama3.2", false, "https://registry.ollama.ai library/llama3.2 latest");
    check("", "llama3.2", true, "https://registry.ollama.ai library/llama3.2 latest");
    check("", "127.0.0.1:5000/me/bot:1", true, "http://127.0.0.1:5000 me/bot 1");
    check("", "127.0.0.1:5000/me/bot:1", false, "https://127.0.0.1:5000 me/bot 1");
    check("me/=https://reg", "me/bot:1", false, "https://reg me/bot 1");
    check("llama3.2=https://reg", "llama3.2:1b", false, "https://reg library/llama3.2 1b");
    check("library=https://reg", "llama3.2:1b", false, "https://reg library/llama3.2 1b");
}

#[test]
fn bad_upstreams_are_told() {
    for bad in [
        "https://reg",
        "a=reg",
        "a=ftp://reg",
        "a=https://",
        "a=https://user:pass@reg",
        "a=https://reg?x",
        "a=https://reg:port",
        "a=https://one,a=https://two",
        "a=https://one,/a/=https://two",
    ] {
        assert!(bad.parse::<Upstreams>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in ".{0,40}", model in ".{0,30}", near in "[a=:/,.htps]{0,30}") {
        for text in [text, near] {
            if let Ok(upstreams) = text.parse::<Upstreams>() {
                drop(upstreams.source(&model, true));
            }
        }
    }

    #[test]
    fn urls_hold_nothing_that_a_name_could_not(model in "[a-zA-Z0-9_./:-]{1,30}") {
        let upstreams: Upstreams = "=https://reg/p".parse().expect("upstreams");
        let Ok(source) = upstreams.source(&model, false) else { return Ok(()) };
        let url = source.manifest_url(&source.tag);
        let odd = url.split('/').skip(3).find(|part| matches!(*part, "" | "." | ".."));
        prop_assert!(odd.is_none() && url.starts_with("https://"), "{}", url);
    }
}
