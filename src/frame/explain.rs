//! Explanations of invalid frames: the opcode, the length, the close code, the exceeded limit.

use std::fmt::Write as _;

use crate::error::{Error, ProtocolError, Quoted};

use super::{Message, Opcode, header::Header};

/// The limits of a receiver, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) frame: u64,
    pub(crate) message: u64,
}

const NO_LIMITS: Limits = Limits { frame: u64::MAX, message: u64::MAX };

/// Makes the error for a frame of the caller that cannot be sent.
#[cold]
pub(crate) fn refuse(error: ProtocolError, message: &Message) -> Error {
    Error::invalid(error, message.describe(error))
}

impl Message {
    /// Describes the rule that this frame breaks.
    #[cold]
    pub(crate) fn describe(&self, error: ProtocolError) -> String {
        explain(error, &Header::of(self, None), &self.payload, NO_LIMITS)
    }
}

/// Describes the rule or limit that a frame breaks. `payload` is the part of its payload that is known.
#[cold]
pub(crate) fn explain(error: ProtocolError, header: &Header, payload: &[u8], limits: Limits) -> String {
    let (kind, len) = (name(header.opcode()), header.len);
    match error {
        ProtocolError::ReservedBits => {
            let mut bits = String::new();
            for (name, set) in ["RSV1", "RSV2", "RSV3"].into_iter().zip(header.reserved_bits()) {
                if set {
                    let _ = write!(bits, "{}{name}", if bits.is_empty() { "" } else { ", " });
                }
            }
            let hint = if header.begins_compressed() {
                "; a compressed message needs permessage-deflate, which was not negotiated"
            } else {
                ""
            };
            format!("the {kind} frame has {bits} set, which no negotiated extension allows here{hint}")
        }
        ProtocolError::ReservedOpcode => {
            format!("the frame has the reserved opcode 0x{:X}", header.opcode().bits())
        }
        ProtocolError::LengthNotMinimal => {
            format!("the payload length {len} is not written in the fewest bytes")
        }
        ProtocolError::LengthTooLarge => format!("the payload length {len} has its highest bit set"),
        ProtocolError::ControlTooLong if header.opcode() == Opcode::CLOSE => format!(
            "the reason of the Close frame has {} bytes; a close reason may have 123 bytes",
            len.saturating_sub(2)
        ),
        ProtocolError::ControlTooLong => {
            format!("the {kind} frame has {len} bytes; a control frame may have 125")
        }
        ProtocolError::ControlFragmented => {
            format!("the {kind} frame has no FIN bit; a control frame cannot be fragmented")
        }
        ProtocolError::MessageInterleaved if header.opcode() == Opcode::CONTINUATION => {
            "a continuation frame came after several messages had been begun, so it is not known which one it \
             continues"
                .to_owned()
        }
        ProtocolError::MessageInterleaved => {
            format!("a {kind} frame began a new message before the last fragment of the one before")
        }
        ProtocolError::CloseCode | ProtocolError::CloseReason => explain_close(error, payload),
        ProtocolError::FrameTooLarge if len > limits.frame => {
            format!("the frame has {len} bytes; max_frame_len allows {}", limits.frame)
        }
        ProtocolError::FrameTooLarge => {
            format!("the frame of {len} bytes inflates to more than max_frame_len allows ({})", limits.frame)
        }
        ProtocolError::MessageTooLarge if header.opcode() == Opcode::CONTINUATION => format!(
            "the message has more bytes than max_message_len allows ({}); each fragment counts as 64 or more",
            limits.message
        ),
        ProtocolError::MessageTooLarge if len > limits.message => {
            format!("the message has {len} bytes; max_message_len allows {}", limits.message)
        }
        ProtocolError::MessageTooLarge => {
            format!("the message inflates to more than max_message_len allows ({})", limits.message)
        }
        other => other.to_string(),
    }
}

fn explain_close(error: ProtocolError, payload: &[u8]) -> String {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else { return error.to_string() };
    let code = u16::from_be_bytes(*code);
    if error == ProtocolError::CloseReason {
        return format!(
            "the Close frame with code {code} has a reason that is not UTF-8: {}",
            Quoted(reason)
        );
    }
    let why = match code {
        1005 | 1006 | 1015 => "this code is never sent",
        0..=999 | 5000.. => "codes are from 1000 to 4999",
        _ => "this code is not defined",
    };
    let reason =
        if reason.is_empty() { String::new() } else { format!(" and the reason {}", Quoted(reason)) };
    format!("the Close frame has the code {code}{reason}; {why}")
}

fn name(opcode: Opcode) -> &'static str {
    match opcode {
        Opcode::CONTINUATION => "continuation",
        Opcode::TEXT => "text",
        Opcode::BINARY => "binary",
        Opcode::CLOSE => "Close",
        Opcode::PING => "Ping",
        Opcode::PONG => "Pong",
        _ => "reserved",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §5.5: "All control frames MUST have a payload length of 125 bytes or less".
    #[test]
    fn texts_of_limits_fit_into_the_reason_of_a_close_frame() {
        let huge = Limits { frame: u64::MAX - 1, message: u64::MAX - 1 };
        for opcode in [Opcode::TEXT, Opcode::CONTINUATION] {
            for len in [1, u64::MAX] {
                let mut header = Header::of(&Message { opcode, ..Message::default() }, None);
                header.len = len;
                for error in [ProtocolError::FrameTooLarge, ProtocolError::MessageTooLarge] {
                    let text = explain(error, &header, b"", huge);
                    assert!(text.len() <= 123 && text.contains(&huge.frame.to_string()), "{text}");
                }
            }
        }
    }
}
