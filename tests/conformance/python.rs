//! The Kubernetes client of Python on both: one program, which must be answered the same.

use crate::{
    requests::namespace,
    sides::{embedded, real, scenario},
    support::checkout,
};

#[test]
fn programs_in_python_are_answered_the_same() {
    scenario(|| async {
        let sides = [real().await, embedded().await];
        let namespace = namespace(&sides).await;
        let client = checkout("tests/conformance/clients/client.py").display().to_string();
        let arguments = [&*client, &namespace];
        let [real, embedded] = sides.each_ref().map(|side| side.run("python", &arguments, "", &[]));
        let (real, embedded) = tokio::join!(real, embedded);
        assert!(real.0, "{}", real.1);
        let [real, embedded] = [real.1, embedded.1].map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
        for (real, embedded) in real.iter().zip(&embedded) {
            assert_eq!(real, embedded);
        }
        assert_eq!(real, embedded);
    });
}
