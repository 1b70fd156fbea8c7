//! One pass: everything in the folder is applied, what vanished is deleted.

use std::collections::BTreeSet;

use super::{
    documents::{Fault, Place},
    folder::Contents,
    plan,
};
use crate::cluster::{Applier, Identity, Known};

/// What came of a pass.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many objects are as they are written.
    pub applied: usize,
    /// What was deleted.
    pub deleted: Vec<Identity>,
    /// What can't be read or is refused, with the object where it is known.
    pub faults: Vec<(Fault, Option<Known>)>,
    /// Why nothing was deleted though something vanished, or why that failed.
    pub kept: Option<String>,
}

impl Outcome {
    /// Whether there is nothing to try again soon.
    pub fn is_well(&self) -> bool {
        self.faults.is_empty() && self.kept.is_none()
    }
}

/// Applies the contents of the folder. Objects that name no namespace are in `namespace`.
pub async fn run(applier: &Applier, contents: Contents, namespace: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut recognised = Vec::new();
    for document in contents.documents {
        match applier.recognise(document.body, namespace) {
            Ok(known) => recognised.push((document.place, known)),
            Err(why) => outcome.faults.push((Fault { place: document.place, why }, None)),
        }
    }
    let unread: Vec<Fault> =
        contents.faults.iter().chain(outcome.faults.iter().map(|(fault, _)| fault)).cloned().collect();
    outcome.faults.extend(contents.faults.into_iter().map(|fault| (fault, None)));
    let wanted = plan::wanted(recognised);
    outcome.faults.extend(wanted.faults.into_iter().map(|fault| (fault, None)));
    let mut identities = BTreeSet::new();
    for (place, known) in wanted.objects {
        match applier.apply(&known, true).await {
            Ok(()) => outcome.applied += 1,
            Err(error) => outcome.faults.push((refusal(place, &known.identity, &error), Some(known.clone()))),
        }
        identities.insert(known.identity);
    }
    prune(applier, &identities, &unread, &mut outcome).await;
    outcome
}

async fn prune(applier: &Applier, wanted: &BTreeSet<Identity>, unread: &[Fault], outcome: &mut Outcome) {
    let vanished = match applier.own().await {
        Ok(own) => plan::vanished(own, wanted, unread),
        Err(error) => Err(format!("what came from it can't be listed: {error}")),
    };
    match vanished {
        Ok(vanished) => {
            for present in vanished {
                match applier.delete(&present).await {
                    Ok(()) => outcome.deleted.push(present.identity),
                    Err(error) => outcome.kept = Some(format!("{} can't be deleted: {error}", present.identity)),
                }
            }
        }
        Err(why) => outcome.kept = Some(why),
    }
}

/// The API's own words, which name the fields.
fn refusal(place: Place, identity: &Identity, error: &kube::Error) -> Fault {
    let why = match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        error => error.to_string(),
    };
    Fault { place, why: format!("{identity}: {why}") }
}
