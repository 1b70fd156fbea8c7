//! What must hold for every input.

mod routing;
