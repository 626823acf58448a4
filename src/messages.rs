//! Whole messages out of frames.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::stream::{FusedStream, Stream};

use crate::{
    error::{Error, ProtocolError},
    frame::{Message, Opcode, header::Header},
    options::{Checks, Settings},
    read::Read,
    reader::Source,
    session::Fragments,
    writer::Outlet,
};

/// A whole message ([RFC 6455 §5.6](https://www.rfc-editor.org/rfc/rfc6455#section-5.6)).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no third kind of data")]
pub enum Data {
    /// Text, checked to be UTF-8.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl Data {
    /// The text, where it is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The bytes of either kind.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl From<Data> for Message {
    fn from(data: Data) -> Self {
        match data {
            Data::Text(text) => Self::text(text),
            Data::Binary(bytes) => Self::binary(bytes),
        }
    }
}

/// The fragments of the message that is coming in. They are kept in [`Read`], so that no future or stream that is
/// dropped takes them along.
#[derive(Debug)]
pub(crate) struct Partial {
    /// The rules for fragments, if the reader does not check them.
    rules: Option<Box<Fragments>>,
    opcode: Option<Opcode>,
    bytes: Vec<u8>,
    max_message_len: usize,
    /// A part of the message cannot be given, so the rest is left out.
    skips: bool,
}

impl Partial {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            // No limit here: it is checked below.
            rules: (settings.checks == Checks::Off).then(|| Box::new(Fragments::new(u64::MAX))),
            opcode: None,
            bytes: Vec::new(),
            max_message_len: settings.max_message_len,
            skips: false,
        }
    }

    /// Adds a frame and returns the message that it completes.
    fn on_frame(&mut self, message: Message) -> Result<Option<Data>, ProtocolError> {
        if message.opcode.is_control() {
            return Ok(None);
        }
        if let Some(rules) = &mut self.rules {
            if message.opcode.is_reserved() && !rules.is_open() {
                return Ok(None);
            }
            rules.on_frame(&Header::of(&message, None), false)?;
            rules.end_frame(message.fin);
            if message.rsv1 {
                // RFC 7692 §6: the message is compressed. Its compressed bytes must not be mistaken for the content.
                self.forget(message.fin);
                return Err(ProtocolError::Deflate);
            }
        }
        let opcode = match (message.opcode, self.opcode) {
            (Opcode::CONTINUATION, None) if self.skips => {
                self.skips = !message.fin;
                return Ok(None);
            }
            // The first fragment was read as a frame.
            (Opcode::CONTINUATION, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::CONTINUATION, Some(opcode)) => opcode,
            (opcode, _) => {
                // The peer gave up the message that was open.
                self.forget(true);
                opcode
            }
        };
        if message.payload.len().saturating_add(self.bytes.len()) > self.max_message_len {
            self.forget(message.fin);
            return Err(ProtocolError::MessageTooLarge);
        }
        if !message.fin {
            self.opcode = Some(opcode);
            self.bytes.extend_from_slice(&message.payload);
            return Ok(None);
        }
        self.opcode = None;
        let payload = if self.bytes.is_empty() {
            message.payload
        } else {
            self.bytes.extend_from_slice(&message.payload);
            Bytes::from(std::mem::take(&mut self.bytes))
        };
        Ok(Some(if opcode == Opcode::TEXT {
            Data::Text(String::from_utf8(payload.into()).map_err(|_| ProtocolError::InvalidUtf8)?)
        } else {
            Data::Binary(payload)
        }))
    }

    /// Notes a frame that was reported instead of yielded. Its message is incomplete without it. A whole message
    /// between the fragments of another one does not damage that one.
    pub(crate) fn on_reported(&mut self, error: ProtocolError, frame: &Message) {
        let whole = error == ProtocolError::MessageInterleaved && frame.fin;
        if !frame.opcode.is_control() && !whole {
            self.forget(frame.fin);
        }
    }

    /// Makes the error for a message that cannot be returned.
    #[cold]
    fn refuse(&self, error: ProtocolError) -> Error {
        let text = match error {
            ProtocolError::MessageTooLarge => {
                format!("the message has more bytes than max_message_len allows ({})", self.max_message_len)
            }
            ProtocolError::Deflate => {
                "a compressed message is not inflated with Checks::Off: read it as frames".to_owned()
            }
            error => error.to_string(),
        };
        Error::violation(error, text)
    }

    /// Notes a frame that was read and thrown away.
    pub(crate) fn on_thrown_away(&mut self, opcode: Opcode, fin: bool) {
        if opcode.is_control() {
            return;
        }
        if let Some(rules) = &mut self.rules {
            let thrown_away = Message { opcode, fin, ..Message::default() };
            // A frame outside of any message does not end the open message.
            if rules.on_frame(&Header::of(&thrown_away, None), false).is_err() {
                if !rules.is_open() {
                    self.forget(true);
                }
                return;
            }
            rules.end_frame(fin);
        }
        self.forget(fin);
    }

    /// Drops the open message because a data frame was not used; `fin`: that frame was the last of its message.
    fn forget(&mut self, fin: bool) {
        self.opcode = None;
        self.bytes = Vec::new();
        self.skips = !fin;
    }
}

/// Whole messages of a connection: a [`Stream`] of [`Data`], made by [`Read::messages`].
///
/// # Cancel safety
///
/// Fragments that came already are kept in [`Read`]; dropping this loses nothing.
pub struct Messages<'a, S: Source, K: Outlet> {
    read: &'a mut Read<S, K>,
}

impl<'a, S: Source, K: Outlet> Messages<'a, S, K> {
    pub(crate) fn new(read: &'a mut Read<S, K>) -> Self {
        Self { read }
    }
}

impl<S: Source, K: Outlet> Stream for Messages<'_, S, K> {
    type Item = Result<Data, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.read.poll_message(cx)) {
                Some(Ok(message)) => match self.read.partial.on_frame(message) {
                    Ok(None) => {}
                    Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                    Err(error) => return Poll::Ready(Some(Err(self.read.partial.refuse(error)))),
                },
                Some(Err(error)) => {
                    if let Error::Reported { error, frame } = &error {
                        self.read.partial.on_reported(*error, frame);
                    }
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<S: Source, K: Outlet> FusedStream for Messages<'_, S, K> {
    fn is_terminated(&self) -> bool {
        self.read.is_terminated()
    }
}

impl<S: Source, K: Outlet> fmt::Debug for Messages<'_, S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}
