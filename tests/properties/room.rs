//! Two versions that don't fit into a node's memory do not meet there.

use drover::domain::routing::{Site, apart, claims, no_room};
use proptest::{collection::vec, prelude::*};

fn sites() -> impl Strategy<Value = Vec<Site>> {
    let bytes = || prop::option::weighted(0.8, 1..9u64);
    let site = (prop::option::weighted(0.8, 4..16u64), bytes(), bytes()).prop_map(|(memory, first, second)| Site {
        node: String::new(),
        memory,
        takes: [first, second],
    });
    vec(site, 0..7).prop_map(|sites| {
        let named = sites.into_iter().enumerate().map(|(index, site)| Site { node: format!("n{index}"), ..site });
        named.filter(|site| site.takes != [None, None]).collect()
    })
}

proptest! {
    #[test]
    fn what_does_not_fit_is_apart_and_nobody_is_without_a_node(sites in sites(), share in 1..100u32) {
        let placements = apart(&claims("bot", [100 - share, share], &sites));
        let is_cramped = placements.iter().any(|placement| placement.is_cramped);
        for site in &sites {
            let both = placements.iter().all(|placement| placement.nodes.contains(&site.node));
            prop_assert!(site.fits() || !both || is_cramped, "{site:?}");
            if site.fits() {
                for (placement, takes) in placements.iter().zip(site.takes) {
                    prop_assert_eq!(placement.nodes.contains(&site.node), takes.is_some(), "who fits stays: {:?}", site);
                }
            }
        }
        for (side, placement) in placements.iter().enumerate() {
            prop_assert_eq!(placement.nodes.is_empty(), sites.iter().all(|site| site.takes[side].is_none()));
        }
        // There is too little room only where each version has that one node, and no other.
        let of = |side: usize| sites.iter().filter(move |site| site.takes[side].is_some()).collect::<Vec<_>>();
        let [first, second] = [of(0), of(1)];
        let alone = first.len() == 1 && first == second && !first[0].fits();
        prop_assert_eq!(no_room(["v1.0.0", "v1.1.0"], &sites).is_some(), alone, "{:?}", sites);
    }
}

#[test]
fn too_little_room_is_told_with_numbers() {
    let gib = |count: u64| count << 30;
    let site = |memory| Site { node: "gpu-1".into(), memory, takes: [Some(gib(5)), Some(gib(4))] };
    assert_eq!(no_room(["v1.0.0", "v1.1.0"], &[site(None)]), None, "nobody knows");
    assert_eq!(no_room(["v1.0.0", "v1.1.0"], &[site(Some(gib(9)))]), None);
    let said = no_room(["v1.0.0", "v1.1.0"], &[site(Some(gib(8)))]).expect("9 is more than 8");
    for words in ["v1.0.0 takes 5.0 GiB", "v1.1.0 takes 4.0 GiB", "8.0 GiB of gpu-1", "add a node"] {
        assert!(said.contains(words), "{said}");
    }
}
