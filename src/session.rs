//! Rules across frames (RFC 6455 §5.4, §5.5, §8.1): a frame in, or out, and whether it may be.
//!
//! Pure: no input or output, no clock, no randomness.

use crate::{
    error::{Error, ProtocolError},
    frame::{
        CloseFrame, Message, Opcode,
        explain::{Limits, explain},
        header::Header,
    },
    options::{Checks, Role, Settings},
};

pub(crate) mod closing;
mod fragments;
pub(crate) mod timers;

pub(crate) use fragments::Fragments;

/// The rules for what the peer sends.
///
/// A frame passes through [`on_header`](Self::on_header), [`on_payload`](Self::on_payload) for each part of its
/// payload and [`on_end`](Self::on_end). An error is final. A violation that is only to be reported is kept
/// until [`take_reported`](Self::take_reported).
#[derive(Debug)]
pub(crate) struct Inbound {
    checks: Checks,
    /// The mask bit that frames must have; `None` where the frames were decoded by somebody else.
    masked: Option<bool>,
    max_frame_len: u64,
    /// Up to this length a whole message in one frame is within all limits.
    max_whole_len: u64,
    /// Whether messages may come compressed.
    deflate: bool,
    /// `true` if compressed messages may refer to earlier ones.
    takeover: bool,
    /// `true` if the inflater has missed compressed bytes of the peer, so that the rest of the message, and later
    /// messages, might be inflated wrongly.
    window_lost: bool,
    fragments: Fragments,
    /// `true` if the current frame is no control frame and part of no message.
    outside: bool,
    reported: Option<ProtocolError>,
}

impl Inbound {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            checks: settings.checks,
            masked: Some(settings.role == Role::Server),
            max_frame_len: settings.max_frame_len as u64,
            max_whole_len: settings.max_frame_len.min(settings.max_message_len) as u64,
            deflate: settings.deflate.is_some(),
            takeover: settings.deflate.as_ref().is_some_and(|deflate| deflate.is_taken_over(settings.role)),
            window_lost: false,
            fragments: Fragments::new(settings.max_message_len as u64),
            outside: false,
            reported: None,
        }
    }

    /// For frames that carry no mask any more.
    pub(crate) fn decoded(settings: &Settings) -> Self {
        Self { masked: None, deflate: false, ..Self::new(settings) }
    }

    /// Whether this frame is what most are: a whole message that breaks no rule, but that its text is still to be
    /// [checked](Self::is_plain_payload). Then nothing changes, and `on_header` and the others need not be called.
    #[inline]
    pub(crate) fn is_plain(&self, header: &Header, header_len: usize) -> bool {
        header.is_whole_message()
            && self.masked.is_none_or(|masked| masked == header.is_masked())
            && header.len <= self.max_whole_len
            && header.is_minimal(header_len)
            && self.fragments.is_closed()
            && self.checks != Checks::Off
    }

    pub(crate) fn on_header(&mut self, header: &Header, header_len: usize) -> Result<(), ProtocolError> {
        if self.checks == Checks::Off {
            return self.check_frame_len(header);
        }
        // §5.2: "the most significant bit MUST be 0"
        if header.len > i64::MAX as u64 {
            return Err(ProtocolError::LengthTooLarge);
        }
        let checked = self.check_header(header, header_len);
        let grouped = if header.opcode().is_control() { Ok(()) } else { self.group(header) };
        if checked.is_err() || grouped.is_err() {
            self.report(header, checked, grouped)?;
        }
        self.check_frame_len(header)
    }

    /// Assigns a data frame to its message.
    fn group(&mut self, header: &Header) -> Result<(), ProtocolError> {
        let begins = matches!(header.opcode(), Opcode::TEXT | Opcode::BINARY);
        let (open, compressed) = (self.fragments.is_open(), self.fragments.is_compressed());
        let grouped = self.fragments.on_frame(header, self.deflate && begins && header.rsv1());
        self.outside = grouped.is_err();
        // If the peer gave up a message, this side does not know how much of it was compressed. A continuation without
        // a message may be a part of a compressed one.
        let gave_up = open && (!self.fragments.is_open() || (begins && grouped.is_ok()));
        let stray = header.opcode() == Opcode::CONTINUATION && self.outside;
        self.window_lost |= (compressed && gave_up) || stray;
        if begins && grouped.is_ok() && !self.takeover {
            self.window_lost = false;
        }
        grouped
    }

    /// Handles a header that breaks a rule. In strict mode this is final; otherwise the frame continues, as part of its
    /// message if possible.
    #[cold]
    fn report(
        &mut self,
        header: &Header,
        checked: Result<(), ProtocolError>,
        grouped: Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        let first = checked.and(grouped);
        if self.checks == Checks::Strict || grouped.is_err_and(ProtocolError::is_limit) {
            return if self.checks == Checks::Strict { first } else { grouped };
        }
        self.reported = first.err();
        // The peer's compressor has seen the payload, or may have, but this inflater does not see it.
        let inflated = header.opcode().is_data() && !self.outside && self.fragments.is_compressed();
        self.window_lost |= header.rsv1() && !inflated;
        Ok(())
    }

    fn check_header(&self, header: &Header, header_len: usize) -> Result<(), ProtocolError> {
        // §5.2: "MUST be 0 unless an extension is negotiated", and RFC 7692 §6.1: "An endpoint MUST NOT set the
        // "Per-Message Compressed" bit of control frames and non-first fragments of a data message."
        let compressed = self.deflate && header.begins_compressed();
        if header.has_reserved_bits() && !compressed {
            return Err(ProtocolError::ReservedBits);
        }
        // §5.1: "The server MUST close the connection upon receiving a frame that is not masked" and "A client
        // MUST close a connection if it detects a masked frame"
        match (self.masked, header.masking_key()) {
            (Some(true), None) => return Err(ProtocolError::Unmasked),
            (Some(false), Some(_)) => return Err(ProtocolError::Masked),
            _ => {}
        }
        // §5.2: "the minimal number of bytes MUST be used to encode the length"
        if !header.is_minimal(header_len) {
            return Err(ProtocolError::LengthNotMinimal);
        }
        if header.opcode().is_control() { check_control(header) } else { Ok(()) }
    }

    fn check_frame_len(&self, header: &Header) -> Result<(), ProtocolError> {
        // What does not compress becomes a little longer.
        let slack = if self.is_of_compressed(header) { self.max_frame_len / 64 + 64 } else { 0 };
        if header.len > self.max_frame_len.saturating_add(slack) {
            Err(ProtocolError::FrameTooLarge)
        } else {
            Ok(())
        }
    }

    /// Returns whether this frame, whose header was checked, is part of a compressed message.
    fn is_of_compressed(&self, header: &Header) -> bool {
        self.deflate
            && header.opcode().is_data()
            && !self.outside
            && self.fragments.is_compressed()
            && self.checks != Checks::Off
    }

    /// Returns whether to inflate the payload of this frame, whose header was checked. Reports a payload that cannot be
    /// inflated.
    pub(crate) fn inflates(&mut self, header: &Header) -> bool {
        if !self.is_of_compressed(header) {
            return false;
        }
        if self.window_lost {
            self.reported.get_or_insert(ProtocolError::Deflate);
            self.fragments.skip_text();
        }
        !self.window_lost
    }

    /// Returns whether the rest of the frame cannot be inflated any more.
    pub(crate) fn is_window_lost(&self) -> bool {
        self.window_lost
    }

    /// So many bytes more were made of a compressed frame, of which there were `before`. They are not kept yet.
    pub(crate) fn on_inflated(&mut self, before: usize, more: usize) -> Result<(), ProtocolError> {
        let (before, more) = (before as u64, more as u64);
        if before.saturating_add(more) > self.max_frame_len {
            return Err(ProtocolError::FrameTooLarge);
        }
        self.fragments.on_inflated(before, more)
    }

    /// Whether text is in the payload of this frame, so that [`on_payload`](Self::on_payload) looks at it.
    fn is_text(&self, header: &Header) -> bool {
        header.opcode().is_data() && !self.outside && self.fragments.is_text() && self.checks != Checks::Off
    }

    pub(crate) fn on_payload(&mut self, header: &Header, payload: &[u8]) -> Result<(), ProtocolError> {
        if self.is_text(header) {
            let checked = self.fragments.on_text(payload);
            return self.judge(checked);
        }
        Ok(())
    }

    /// Whether the payload of a [plain](Self::is_plain) frame breaks no rule either.
    #[inline]
    pub(crate) fn is_plain_payload(header: &Header, payload: &[u8]) -> bool {
        // §8.1, as in `Fragments::on_text`.
        header.opcode() != Opcode::TEXT || simdutf8::basic::from_utf8(payload).is_ok()
    }

    /// The frame is complete; `payload` is all of it.
    pub(crate) fn on_end(&mut self, header: &Header, payload: &[u8]) -> Result<(), ProtocolError> {
        if self.checks == Checks::Off {
            return Ok(());
        }
        let checked = match header.opcode() {
            Opcode::CLOSE if self.reported.is_none() => CloseFrame::parse(payload).map(drop),
            opcode if opcode.is_data() && !self.outside => self.fragments.on_end(header.fin()),
            _ => Ok(()),
        };
        self.judge(checked)
    }

    pub(crate) fn judge(&mut self, checked: Result<(), ProtocolError>) -> Result<(), ProtocolError> {
        match checked {
            Err(error) if self.checks == Checks::Report && !error.is_limit() => {
                self.reported.get_or_insert(error);
                if matches!(error, ProtocolError::InvalidUtf8 | ProtocolError::Deflate) {
                    self.fragments.skip_text();
                }
                self.window_lost |= error == ProtocolError::Deflate;
                Ok(())
            }
            checked => checked,
        }
    }

    /// Makes the error for a frame that one of these methods refused. `payload` is the known part of its payload.
    #[cold]
    pub(crate) fn refuse(&self, error: ProtocolError, header: &Header, payload: &[u8]) -> Error {
        let limits = Limits { frame: self.max_frame_len, message: self.fragments.max_message_len() };
        Error::violation(error, explain(error, header, payload, limits))
    }

    /// The violation in the frame that has just ended, where it is only to be reported.
    pub(crate) fn take_reported(&mut self) -> Option<ProtocolError> {
        self.reported.take()
    }
}

fn check_control(header: &Header) -> Result<(), ProtocolError> {
    // §5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_"
    if header.opcode().is_reserved() {
        return Err(ProtocolError::ReservedOpcode);
    }
    // §5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented"
    if header.len > 125 {
        return Err(ProtocolError::ControlTooLong);
    }
    if !header.fin() {
        return Err(ProtocolError::ControlFragmented);
    }
    Ok(())
}

/// The rules for what one sender sends: those that a strict peer will check.
#[derive(Debug)]
pub(crate) struct Outbound {
    checks: Checks,
    /// Whether the caller may send what is compressed already.
    deflate: bool,
    fragments: Fragments,
}

impl Outbound {
    pub(crate) fn new(checks: Checks, deflate: bool) -> Self {
        Self { checks, deflate, fragments: Fragments::new(u64::MAX) }
    }

    /// Whether this frame may go out. One that may not changes nothing.
    #[inline]
    pub(crate) fn on_message(&mut self, message: &Message) -> Result<(), ProtocolError> {
        if self.checks == Checks::Off {
            return Ok(());
        }
        let header = Header::of(message, None);
        if header.is_whole_message() && !self.fragments.is_open() {
            let valid =
                header.opcode() != Opcode::TEXT || simdutf8::basic::from_utf8(&message.payload).is_ok();
            return if valid { Ok(()) } else { Err(ProtocolError::InvalidUtf8) };
        }
        self.on_other(message, header)
    }

    /// A control frame, or one of several of a message.
    #[cold]
    fn on_other(&mut self, message: &Message, header: Header) -> Result<(), ProtocolError> {
        let compressed = self.deflate && header.begins_compressed();
        if header.has_reserved_bits() && !compressed {
            return Err(ProtocolError::ReservedBits);
        }
        if header.opcode().is_control() {
            check_control(&header)?;
            return if header.opcode() == Opcode::CLOSE {
                CloseFrame::parse(&message.payload).map(drop)
            } else {
                Ok(())
            };
        }
        let mut fragments = self.fragments;
        fragments.on_frame(&header, compressed)?;
        if fragments.is_text() && !fragments.is_compressed() {
            fragments.on_text(&message.payload)?;
        }
        fragments.on_end(header.fin())?;
        self.fragments = fragments;
        Ok(())
    }

    /// Whether a fragmented message has been begun and not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.fragments.is_open()
    }
}
