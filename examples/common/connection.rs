//! The arguments of `cat` and `frames` that say where to connect to and how.

use std::{error::Error, path::PathBuf, time::Duration};

use coro_websocket::{Options, Tls};

use crate::{deflate::Compressed as _, program::Arguments};

/// The default limit of the closing handshake, unless `--timeout` is given.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Connection {
    url: String,
    ca: Option<PathBuf>,
    insecure: bool,
    headers: Vec<(String, String)>,
    protocols: Vec<String>,
    timeout: Option<Duration>,
    pub(crate) deflate: Option<String>,
}

impl Connection {
    /// Takes the value of an option, if it is one of those for connections.
    pub(crate) fn take(&mut self, option: &str, arguments: &mut Arguments) -> Result<(), lexopt::Error> {
        match option {
            "--ca" => self.ca = Some(arguments.raw_value()?.into()),
            "--insecure" => self.insecure = true,
            "-H" | "--header" => {
                let header = arguments.value()?;
                let Some((name, value)) = header.split_once(':') else {
                    return Err(format!("{option}: '{header}' has no colon (expected 'NAME: VALUE')").into());
                };
                self.headers.push((name.to_owned(), value.trim().to_owned()));
            }
            "--protocol" => self.protocols.push(arguments.value()?),
            "--timeout" => self.timeout = Some(arguments.seconds()?),
            "--deflate" => {
                let params = arguments.optional_value()?.unwrap_or_default();
                Options::default().compressed(&params)?;
                self.deflate = Some(params);
            }
            _ => return Err(arguments.unexpected()),
        }
        Ok(())
    }

    /// Takes the URL, which is the only operand.
    pub(crate) fn take_url(&mut self, arguments: &mut Arguments) -> Result<(), lexopt::Error> {
        self.url = arguments.required("URL")?;
        Ok(())
    }

    /// Returns the limit of the closing handshake.
    pub(crate) fn close_timeout(&self) -> Duration {
        self.timeout.unwrap_or(CLOSE_TIMEOUT)
    }

    pub(crate) fn options(&self) -> Result<Options, Box<dyn Error>> {
        let mut options = Options::from_url(&self.url)?
            .subprotocols(&self.protocols)
            .headers(self.headers.iter().cloned())
            .close_timeout(self.close_timeout());
        if let Some(timeout) = self.timeout {
            options = options.timeout(timeout);
        }
        if let Some(params) = &self.deflate {
            options = options.compressed(params)?;
        }
        // A certificate matters only where there is TLS.
        if self.url.to_ascii_lowercase().starts_with("wss:") {
            if self.insecure {
                options = options.tls(Tls::default().danger_accept_any_certificate(true));
            } else if let Some(ca) = &self.ca {
                options = options.tls(Tls::default().web_roots(false).ca_file(ca));
            }
        }
        Ok(options)
    }
}

/// Adds the whole body to the error of a refusal, unless its text has it already.
pub(crate) fn with_body(error: coro_websocket::Error) -> Box<dyn Error> {
    let body = error.response().map(|response| String::from_utf8_lossy(response.body())).unwrap_or_default();
    let body = body.trim_end();
    if body.is_empty() || error.to_string().contains(body) {
        return error.into();
    }
    // Terminals obey control characters.
    let is_plain = |&character: &char| !character.is_control() || matches!(character, '\n' | '\t');
    format!("{error}\nThe answer says:\n{}", body.chars().filter(is_plain).collect::<String>()).into()
}
