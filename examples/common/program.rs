//! Code that all examples share: arguments with `--help`, exit codes, and errors in words.
#![allow(dead_code, reason = "each example uses some of it")]

use std::{
    collections::VecDeque,
    error::Error,
    ffi::OsString,
    fmt, io,
    process::{self, ExitCode},
    str::FromStr,
    time::Duration,
};

use lexopt::{Arg, Parser, ValueExt as _};

/// The name of the example.
const NAME: &str = env!("CARGO_CRATE_NAME");

/// Runs an example: `parse` reads its arguments, `main` does its work. The exit code is 0 after success and for
/// `--help`, 1 after an error, and 2 for arguments that cannot be used.
pub(crate) fn run<A, E: Into<Box<dyn Error>>>(
    usage: &'static str,
    parse: impl FnOnce(&mut Arguments) -> Result<A, lexopt::Error>,
    main: impl FnOnce(A) -> Result<(), E>,
) -> ExitCode {
    let mut arguments = Arguments::new(usage);
    let parsed = parse(&mut arguments).and_then(|parsed| arguments.finish().map(|()| parsed));
    match parsed.map(main) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            tell(error.into().as_ref());
            ExitCode::FAILURE
        }
        Err(error) => {
            tell(&error);
            let line = usage.split("\n\n").next().unwrap_or_default().trim_end();
            print(io::stderr(), format_args!("{line}\n`{NAME} --help` explains it.\n"));
            ExitCode::from(2)
        }
    }
}

/// Runs an example that takes no arguments.
pub(crate) fn run_plain<E: Into<Box<dyn Error>>>(
    usage: &'static str,
    main: impl FnOnce() -> Result<(), E>,
) -> ExitCode {
    run(usage, |_| Ok(()), |()| main())
}

/// Prints a line to standard error, behind the name of the example.
pub(crate) fn say(text: impl fmt::Display) {
    print(io::stderr(), format_args!("{NAME}: {text}\n"));
}

/// Prints an error and its sources, as far as their text is not in it already.
fn tell(error: &dyn Error) {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !told.contains(&text) {
            told = format!("{told}\n  because: {text}");
        }
        source = error.source();
    }
    say(told);
}

/// Unlike `print!`, this does not panic when the other end of a pipe is closed.
fn print(mut out: impl io::Write, text: fmt::Arguments<'_>) {
    let _ = out.write_fmt(text).and_then(|()| out.flush());
}

/// The arguments of the command line: options, which may stand anywhere, and operands.
pub(crate) struct Arguments {
    usage: &'static str,
    parser: Parser,
    /// The option that was read last.
    option: String,
    operands: VecDeque<OsString>,
}

impl Arguments {
    fn new(usage: &'static str) -> Self {
        Self { usage, parser: Parser::from_env(), option: String::new(), operands: VecDeque::new() }
    }

    /// Returns the next option with its dashes. Answers `--help` by itself.
    pub(crate) fn option(&mut self) -> Result<Option<String>, lexopt::Error> {
        self.option = loop {
            match self.parser.next()? {
                None => return Ok(None),
                Some(Arg::Short('h') | Arg::Long("help")) => {
                    print(io::stdout(), format_args!("{}", self.usage));
                    process::exit(0);
                }
                Some(Arg::Short(letter)) => break format!("-{letter}"),
                Some(Arg::Long(name)) => break format!("--{name}"),
                Some(Arg::Value(operand)) => self.operands.push_back(operand),
            }
        };
        Ok(Some(self.option.clone()))
    }

    /// Rejects the option that was read last.
    pub(crate) fn unexpected(&self) -> lexopt::Error {
        lexopt::Error::UnexpectedOption(self.option.clone())
    }

    /// Returns the value of the option that was read last.
    pub(crate) fn value(&mut self) -> Result<String, lexopt::Error> {
        self.raw_value()?.string()
    }

    /// Returns the value of the option that was read last, such as the path of a file.
    pub(crate) fn raw_value(&mut self) -> Result<OsString, lexopt::Error> {
        self.parser.value()
    }

    /// Returns the value of the option that was read last if it stands behind a `=`.
    pub(crate) fn optional_value(&mut self) -> Result<Option<String>, lexopt::Error> {
        self.parser.optional_value().map(|value| value.string()).transpose()
    }

    /// Returns the value of the option that was read last as a number.
    pub(crate) fn number<T: FromStr<Err: fmt::Display>>(&mut self) -> Result<T, lexopt::Error> {
        let value = self.value()?;
        value.parse().map_err(|error| format!("{}: '{value}': {error}", self.option).into())
    }

    /// Returns the value of the option that was read last as seconds.
    pub(crate) fn seconds(&mut self) -> Result<Duration, lexopt::Error> {
        let seconds = self.number()?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|error| format!("{}: '{seconds}': {error}", self.option).into())
    }

    /// Returns the next operand. Only to be called behind the last option.
    pub(crate) fn operand(&mut self) -> Result<Option<String>, lexopt::Error> {
        if self.option()?.is_some() {
            return Err(self.unexpected());
        }
        self.operands.pop_front().map(|operand| operand.string()).transpose()
    }

    /// Returns the next operand, which must be there.
    pub(crate) fn required(&mut self, name: &str) -> Result<String, lexopt::Error> {
        self.operand()?.ok_or_else(|| format!("{name} is missing").into())
    }

    /// Rejects what is left.
    fn finish(&mut self) -> Result<(), lexopt::Error> {
        match self.operand()? {
            Some(operand) => Err(lexopt::Error::UnexpectedArgument(operand.into())),
            None => Ok(()),
        }
    }
}
