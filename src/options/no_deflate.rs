//! What stands for the choices about compression where it is left out: nothing, since no value exists.

use crate::{error::Error, options::Role};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deflate {}

impl Deflate {
    pub(crate) fn check(&self) -> Result<(), Error> {
        match *self {}
    }

    pub(crate) fn is_taken_over(&self, _: Role) -> bool {
        match *self {}
    }

    pub(crate) fn params(&self) -> DeflateParams {
        match *self {}
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeflateParams {}

pub(crate) fn encode_offers(_: &[Deflate]) -> Option<String> {
    None
}
