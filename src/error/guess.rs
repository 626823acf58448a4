//! Guessing the protocol that the other end of a connection speaks.

/// Names the protocol that begins with these bytes, if they are recognised.
pub(crate) fn guess_protocol(bytes: &[u8]) -> Option<&'static str> {
    const METHODS: [&[u8]; 6] = [b"GET /", b"POST ", b"HEAD ", b"PUT /", b"OPTIO", b"CONNE"];
    const KNOWN: [(&[u8], &str); 20] = [
        (b"PROXY", "the PROXY protocol of a load balancer"),
        // The start of its binary version.
        (b"\r\n\r\n\0", "the PROXY protocol of a load balancer"),
        (b"SSH-", "SSH"),
        (b"HTTP/", "HTTP"),
        (b"PRI *", "HTTP/2"),
        (b"220 ", "SMTP or FTP"),
        (b"220-", "SMTP or FTP"),
        (b"+OK", "POP3"),
        (b"* OK", "IMAP"),
        (b"SIP/", "SIP"),
        (b"RTSP/", "RTSP"),
        (b"NOTIC", "IRC"),
        (b"ERROR", "memcached"),
        (b"\xff\xfb", "Telnet"),
        (b"\xff\xfd", "Telnet"),
        (b"RFB ", "VNC"),
        (b"AMQP", "AMQP"),
        (b"<", "HTML or XML without an HTTP head"),
        (b"\x05", "SOCKS"),
        (b"\x04", "SOCKS"),
    ];
    match *bytes {
        // RFC 8446 §5.1: the type of the record, then the version.
        [20..=23, 3, ..] => return Some("TLS"),
        // RFC 9113 §6.5: a SETTINGS frame, which comes first.
        [0, 0, _, 4, 0 | 1, ..] => return Some("HTTP/2"),
        [_, 0, 0, 0, 10 | 0xff, ..] => return Some("MySQL"),
        [b'E', 0, 0, ..] => return Some("PostgreSQL"),
        // An error; POP3 has one that looks the same.
        [b'-', b'A'..=b'Z', b'A'..=b'Z', ..] => return Some("Redis"),
        _ => {}
    }
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Some("HTTP");
    }
    KNOWN.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_known_by_what_their_servers_say_first() {
        for (bytes, protocol) in [
            (&b"-DENIED Redis is running in protected mode"[..], Some("Redis")),
            (b"-NOAUTH Authentication required.", Some("Redis")),
            (b"-ERR unknown command", Some("Redis")),
            (b"J\0\0\0\x0a8.0.36\0", Some("MySQL")),
            (b"E\0\0\0\xff\x6a\x04Host is not allowed", Some("MySQL")),
            (b"E\0\0\0\x8aSFATAL\0", Some("PostgreSQL")),
            (b"SIP/2.0 400 Bad Request", Some("SIP")),
            (b"NOTICE AUTH :*** Looking up", Some("IRC")),
            (b"ERROR\r\n", Some("memcached")),
            (b"\xff\xfd\x18\xff\xfd\x20", Some("Telnet")),
            (b"\x15\x03\x01\0\x02\x02\x28", Some("TLS")),
            (b"HTTP/1.1 200 OK", Some("HTTP")),
            (b"- a list", None),
            (b"Hello", None),
            (b"", None),
        ] {
            assert_eq!(guess_protocol(bytes), protocol, "{bytes:?}");
        }
    }
}
