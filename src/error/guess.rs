//! Which protocol the other end of a connection seems to speak.

/// Names the protocol that begins with these bytes, if they are known.
pub(crate) fn guess_protocol(bytes: &[u8]) -> Option<&'static str> {
    const METHODS: [&[u8]; 6] = [b"GET /", b"POST ", b"HEAD ", b"PUT /", b"OPTIO", b"CONNE"];
    const KNOWN: [(&[u8], &str); 16] = [
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
        (b"-ERR", "Redis"),
        (b"-NOAU", "Redis"),
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
        [_, 0, 0, 0, 10, ..] => return Some("MySQL"),
        _ => {}
    }
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Some("HTTP");
    }
    KNOWN.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, name)| *name)
}
