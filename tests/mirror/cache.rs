//! The mirror's disk: its limit, what is evicted, and what happens when it is full.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::json;

use crate::fake::Fake;
use crate::parts::disk::Disk;
use crate::parts::registry::{Image, digest_of};
use crate::parts::{Scratch, eventually};
use crate::support::{Mirror, blob, is_kept};

const MB: usize = 1_000_000;

/// Pulls all blobs of a model as a node would, and gives the grant back.
async fn pull(mirror: &Mirror, token: &str, model: &str, image: &Image) -> StatusCode {
    let name = model.rsplit(['/']).next().and_then(|name| name.split(':').next()).expect("a name");
    mirror.granted(token, model).await;
    let mut worst = StatusCode::OK;
    for bytes in &image.blobs {
        let answer = mirror.get(&blob(token, name, &digest_of(bytes))).await;
        worst = worst.max(answer.status);
    }
    mirror.send(mirror.request(Method::DELETE, &format!("/drover/v1/pulls/{token}"))).await;
    worst
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_used_for_longest_makes_room() {
    let scratch = Scratch::new();
    let fake = Fake::start().await;
    let images: Vec<Image> = (0..4).map(|seed| Image::of_size(10 + seed, MB)).collect();
    for (number, image) in images.iter().enumerate() {
        fake.put("team/foo", &number.to_string(), image);
    }
    fake.put("team/big", "1", &Image::of_size(20, 4 * MB));
    let upstream = format!("={}", fake.url());
    let mirror = Mirror::with(&["--upstream", &upstream, "--mirror-cache-size", "3500kB"], scratch.path()).await;
    for (number, image) in images.iter().take(3).enumerate() {
        assert_eq!(pull(&mirror, "token", &format!("team/foo:{number}"), image).await, StatusCode::OK);
    }
    assert_eq!(pull(&mirror, "token", "team/foo:0", &images[0]).await, StatusCode::OK);
    assert_eq!(pull(&mirror, "token", "team/foo:3", &images[3]).await, StatusCode::OK);
    let stats = mirror.stats().await;
    assert_eq!(stats["evictions"], 1, "{stats}");
    assert!(stats["cacheBytes"].as_i64() <= Some(3_500_000), "{stats}");
    let sent: Vec<u8> = images.iter().map(|image| fake.sent(&image.layer()).1).collect();
    assert_eq!(sent, [1, 1, 1, 1], "nothing that was used lately was fetched again");
    pull(&mirror, "token", "team/foo:0", &images[0]).await;
    pull(&mirror, "token", "team/foo:1", &images[1]).await;
    let sent: Vec<u8> = images.iter().map(|image| fake.sent(&image.layer()).1).collect();
    assert_eq!(sent, [1, 2, 1, 1], "1 was the one that went");
    let (reason, message) = mirror.grant("big", "team/big:1", json!({})).await.error();
    assert!(reason == "MirrorFull" && message.contains("mirror-cache-size"), "{reason}: {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_read_or_pulled_stays() {
    let scratch = Scratch::new();
    let (fake, first, second) = (Fake::start().await, Image::of_size(30, 2 * MB), Image::of_size(31, 2 * MB));
    fake.put("team/foo", "1", &first);
    fake.put("team/foo", "2", &second);
    let upstream = format!("={}", fake.url());
    let mirror = Mirror::with(&["--upstream", &upstream, "--mirror-cache-size", "3MB"], scratch.path()).await;
    fake.behave(|how| how.hold_after = Some(MB));
    mirror.granted("first", "team/foo:1").await;
    let reading = mirror.request(Method::GET, &blob("first", "foo", &first.layer())).send().await.expect("an answer");
    mirror.granted("second", "team/foo:2").await;
    let refused = mirror.get(&blob("second", "foo", &second.layer())).await;
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(refused.status == StatusCode::INSUFFICIENT_STORAGE && text.contains("full"), "{refused:?}");
    fake.behave(|how| how.hold_after = None);
    assert!(reading.bytes().await.expect("all of it") == first.blobs[1][..]);
    mirror.send(mirror.request(Method::DELETE, "/drover/v1/pulls/first")).await;
    let second_path = blob("second", "foo", &second.layer());
    let answer = eventually("there is room", Duration::from_secs(10), async || {
        let answer = mirror.get(&second_path).await;
        if answer.status == StatusCode::OK { Ok(answer) } else { Err(answer.status) }
    });
    assert!(answer.await.body == second.blobs[1][..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_share_layers_share_the_bytes() {
    let scratch = Scratch::new();
    let fake = Fake::start().await;
    let shared = crate::parts::registry::noise(40, 2 * MB);
    let one = Image::of(vec![shared.clone(), vec![1; 1000]]);
    let two = Image::of(vec![shared, vec![2; 1000]]);
    fake.put("team/one", "1", &one);
    fake.put("team/two", "1", &two);
    let mirror = Mirror::over(&fake.url(), scratch.path()).await;
    assert_eq!(pull(&mirror, "a", "team/one:1", &one).await, StatusCode::OK);
    assert_eq!(pull(&mirror, "b", "team/two:1", &two).await, StatusCode::OK);
    assert_eq!(fake.sent(&one.layer()), (1, 1, 2 * MB as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_somebody_deleted_is_fetched_again() {
    let scratch = Scratch::new();
    let (fake, image) = (Fake::start().await, Image::of_size(41, MB));
    fake.put("team/foo", "1", &image);
    let mirror = Mirror::over(&fake.url(), scratch.path()).await;
    assert_eq!(pull(&mirror, "a", "team/foo:1", &image).await, StatusCode::OK);
    let file = is_kept(scratch.path(), &image.layer()).await;
    std::fs::remove_file(file).expect("the blob's file");
    assert_eq!(pull(&mirror, "b", "team/foo:1", &image).await, StatusCode::OK);
    assert_eq!(fake.sent(&image.layer()), (2, 2, 2 * MB as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_is_asked_no_faster_than_allowed() {
    let scratch = Scratch::new();
    let (fake, image) = (Fake::start().await, Image::of_size(50, 2 * MB));
    fake.put("team/foo", "1", &image);
    let upstream = format!("={}", fake.url());
    let mirror = Mirror::with(&["--upstream", &upstream, "--mirror-bandwidth", "1MB"], scratch.path()).await;
    let start = Instant::now();
    assert_eq!(pull(&mirror, "a", "team/foo:1", &image).await, StatusCode::OK);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(8), "2 MB at 1 MB/s took {took:?}");
    let start = Instant::now();
    assert_eq!(pull(&mirror, "b", "team/foo:1", &image).await, StatusCode::OK);
    assert!(start.elapsed() < Duration::from_secs(1), "what is there comes at full speed");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_the_stats_tell() {
    let scratch = Scratch::new();
    let (fake, image) = (Fake::start().await, Image::of_size(55, MB));
    fake.put("team/foo", "1", &image);
    let mirror = Mirror::over(&fake.url(), scratch.path()).await;
    assert_eq!(pull(&mirror, "a", "team/foo:1", &image).await, StatusCode::OK);
    // Who has the last byte may come again before the fetch that brought it has ended.
    mirror.counts("fetches", |fetches| fetches == 0).await;
    assert_eq!(pull(&mirror, "b", "team/foo:1", &image).await, StatusCode::OK);
    mirror.grant("c", "team/bar:1", json!({})).await;
    mirror.counts("fetches", |fetches| fetches == 0).await;
    let (size, metrics) = (image.size(), mirror.drover.metrics().await);
    for line in [
        format!("drover_mirror_in_bytes_total {size}"),
        format!("drover_mirror_out_bytes_total {}", 2 * size),
        format!("drover_mirror_cache_bytes {size}"),
        "drover_mirror_blob_requests_total{result=\"hit\"} 2".into(),
        "drover_mirror_blob_requests_total{result=\"miss\"} 2".into(),
        "drover_mirror_upstream_errors_total{reason=\"NoSuchModel\"} 1".into(),
        "drover_mirror_fetches 0".into(),
        "drover_mirror_evictions_total 0".into(),
        "drover_mirror_corrupt_blobs_total 0".into(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing:\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_gets_well_again() {
    let scratch = Scratch::new();
    let _disk = Disk::mount(&scratch.join("mirror-data"), 6);
    let (fake, small, big) = (Fake::start().await, Image::of_size(60, MB), Image::of_size(61, 4 * MB));
    fake.put("team/foo", "1", &small);
    fake.put("team/big", "1", &big);
    let mirror = Mirror::over(&fake.url(), scratch.path()).await;
    assert_eq!(pull(&mirror, "a", "team/foo:1", &small).await, StatusCode::OK);
    let ballast = scratch.join("mirror-data").join("ballast");
    std::fs::write(&ballast, vec![1; 3 * MB]).expect("there is room for it");
    mirror.granted("b", "team/big:1").await;
    let path = blob("b", "big", &big.layer());
    let broken = mirror.try_send(mirror.request(Method::GET, &path)).await;
    assert!(!broken.is_ok_and(|answer| answer.status == StatusCode::OK), "4 MB do not fit");
    assert_eq!(mirror.stats().await["evictions"], 1, "the small one had to go first");
    std::fs::remove_file(&ballast).expect("it was there");
    let whole = eventually("there is room again", Duration::from_secs(20), async || {
        match mirror.try_send(mirror.request(Method::GET, &path)).await {
            Ok(answer) if answer.status == StatusCode::OK => Ok(answer),
            other => Err(format!("{:?}", other.map(|answer| answer.status))),
        }
    });
    assert!(whole.await.body == big.blobs[1][..]);
}
