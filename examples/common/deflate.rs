//! The option `--deflate[=PARAMS]` of several examples.

#[cfg(feature = "deflate")]
use coro_websocket::{Deflate, Options, ServerOptions};

/// Options in which compression can be switched on.
pub(crate) trait Compressed: Sized {
    /// Returns the same options with compression by these parameters.
    fn compressed(self, params: &str) -> Result<Self, String>;
}

#[cfg(feature = "deflate")]
impl Compressed for Options {
    fn compressed(self, params: &str) -> Result<Self, String> {
        Ok(self.deflate(parse(params)?))
    }
}

#[cfg(feature = "deflate")]
impl Compressed for ServerOptions {
    fn compressed(self, params: &str) -> Result<Self, String> {
        Ok(self.deflate(parse(params)?))
    }
}

#[cfg(feature = "deflate")]
fn parse(params: &str) -> Result<Deflate, String> {
    params.parse().map_err(|error| format!("--deflate={params}: {error}"))
}

#[cfg(not(feature = "deflate"))]
impl<O> Compressed for O {
    fn compressed(self, _: &str) -> Result<Self, String> {
        Err("--deflate: this was built without the feature `deflate`".into())
    }
}
