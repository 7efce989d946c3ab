//! The real world, on tokio.

/// The environment of production.
#[derive(Clone, Debug)]
pub struct TokioEnv;

/// A task of tokio's runtime.
#[derive(Debug)]
pub struct TokioTask;
