//! What stands for compression where it is left out: nothing, since no value of these types exists.

use std::io;

use bytes::Bytes;

use crate::{
    error::{HandshakeError, ProtocolError},
    frame::Message,
    handshake::extension::Extension,
    options::{Deflate, Role, Settings},
};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Sending {}

impl Sending {
    pub(crate) fn of(_: &Settings) -> Option<Self> {
        None
    }

    pub(crate) fn is_like(&self, _: Self) -> bool {
        match *self {}
    }

    pub(crate) fn compresses(&self, _: &Message) -> bool {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Deflater {}

impl Deflater {
    pub(crate) fn new(sending: Sending) -> Self {
        match sending {}
    }

    pub(crate) fn set_enabled(&mut self, _: bool) {
        match *self {}
    }

    pub(crate) fn on_message(&mut self, _: &mut Message) -> io::Result<Option<Bytes>> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Inflater {}

impl Inflater {
    pub(crate) fn new(deflate: &Deflate, _: Role) -> Self {
        match *deflate {}
    }

    pub(crate) fn begin(&mut self) {
        match *self {}
    }

    pub(crate) fn inflate(
        &mut self,
        _: &[u8],
        _: bool,
        _: impl FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        match *self {}
    }
}

pub(crate) fn compress_alone(sending: Sending, _: &[u8]) -> Option<Bytes> {
    match sending {}
}

pub(crate) fn offered_names(_: &[Deflate]) -> &'static [&'static str] {
    &[]
}

pub(crate) fn choose_offer(own: &Deflate, _: &[Extension]) -> Option<(Deflate, String)> {
    match *own {}
}

pub(crate) fn check_answer(_: &[Deflate], answer: &[Extension]) -> Result<Option<Deflate>, HandshakeError> {
    if answer.is_empty() { Ok(None) } else { Err(HandshakeError::Extension) }
}
