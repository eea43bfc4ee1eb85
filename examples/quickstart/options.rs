//! The command line.

pub const HELP: &str = "\
usage: quickstart [options]

  --operations N        how many operations are carried out (default 6000, or 300 without isolation)
  --seed N              the same seed draws the same operations (default 2013)
  --files               a file for each carrier and no server; needs the feature sqlite
  --without-isolation   drop the policies first: must find foreign rows and exit with 1
  --help                this text

Exits with 1 if a row, a remark or a round trip is not what it should be.";

#[derive(Debug)]
pub struct Options {
    pub operations: u64,
    pub seed: u64,
    pub without_isolation: bool,
    pub files: bool,
}

impl Options {
    /// `None` if the help was asked for, which has been printed.
    pub fn read() -> Result<Option<Self>, String> {
        let mut operations = None;
        let mut options = Self {
            operations: 6_000,
            seed: 2013,
            without_isolation: false,
            files: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let value = arguments.next().unwrap_or_default();
                value
                    .parse()
                    .map_err(|_| format!("{argument} takes a number"))
            };
            match argument.as_str() {
                "--operations" => operations = Some(number()?),
                "--seed" => options.seed = number()?,
                "--without-isolation" => options.without_isolation = true,
                "--files" if cfg!(feature = "sqlite") => options.files = true,
                "--files" => return Err("--files needs --features testing,sqlite".into()),
                "--help" | "-h" => {
                    println!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(format!("there is no option {argument}")),
            }
        }
        if options.without_isolation {
            // Everybody reads everything: a few operations are slow, and enough.
            options.operations = 300;
        }
        if let Some(operations) = operations {
            options.operations = operations;
        }
        Ok(Some(options))
    }
}
