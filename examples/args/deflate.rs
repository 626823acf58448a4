//! The argument `--deflate[=PARAMS]` of several examples.

use std::error::Error;

#[cfg(feature = "deflate")]
use coro_websocket::{Deflate, Options, ServerOptions};

/// The parameters, if it is this argument.
pub(crate) fn params(arg: &str) -> Option<&str> {
    match arg.strip_prefix("--deflate")? {
        "" => Some(""),
        params => params.strip_prefix('='),
    }
}

/// Options in which compression can be switched on.
pub(crate) trait Compressed: Sized {
    /// The same with compression by these parameters.
    fn compressed(self, params: &str) -> Result<Self, Box<dyn Error>>;
}

#[cfg(feature = "deflate")]
impl Compressed for Options {
    fn compressed(self, params: &str) -> Result<Self, Box<dyn Error>> {
        Ok(self.deflate(parse(params)?))
    }
}

#[cfg(feature = "deflate")]
impl Compressed for ServerOptions {
    fn compressed(self, params: &str) -> Result<Self, Box<dyn Error>> {
        Ok(self.deflate(parse(params)?))
    }
}

#[cfg(feature = "deflate")]
fn parse(params: &str) -> Result<Deflate, String> {
    params.parse().map_err(|error| format!("--deflate={params}: {error}"))
}

#[cfg(not(feature = "deflate"))]
impl<O> Compressed for O {
    fn compressed(self, _: &str) -> Result<Self, Box<dyn Error>> {
        Err("--deflate: this was built without the feature `deflate`".into())
    }
}
