//! What callers may have done with the models of a fleet, besides calling them.

use futures::{future::BoxFuture, stream::BoxStream};

use crate::domain::pull::Line;

/// Why a model was not pulled or removed. The words are for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// It can't be asked for like that.
    #[error("{0}")]
    Invalid(String),
    /// There is no such model.
    #[error("{0}")]
    NotFound(String),
    /// Something else needs the model, or it isn't Drover's to remove.
    #[error("{0}")]
    InUse(String),
    /// The gateway may not do it.
    #[error("{0}")]
    Forbidden(String),
    /// It was tried.
    #[error("{0}")]
    Failed(String),
    /// It can't be done at present.
    #[error("{0}")]
    Unavailable(String),
}

/// How a gateway has models brought to the nodes and taken away.
pub trait ModelOperations: Send + Sync {
    /// Has every node hold what a tag stands for now, and tells how that goes until it is done: the last line says `success`.
    /// Dropping the stream changes nothing; whoever asks for the same model meanwhile hears of the same pull. What somebody
    /// else declared stays as it is, and a line says so.
    fn pull<'a>(&'a self, model: &'a str, insecure: bool) -> BoxFuture<'a, Result<Pulling, OperationError>>;

    /// Removes a model that was pulled by [`Self::pull`], unless something else needs it; returns when it is gone.
    fn remove<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), OperationError>>;
}

/// The progress of a pull, as it comes.
pub type Pulling = BoxStream<'static, Result<Line, OperationError>>;
