//! The tenants: what the files say of them, and what is seen of them while the example runs.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tenantry::TenantId;

use crate::Failure;

const AIRLINES: &[u8] = include_bytes!("../data/airlines.csv");
const FLIGHTS: &[u8] = include_bytes!("../data/flights-2013-01.csv.gz");

/// The carrier with a database of its own.
pub const ALONE: &str = "HA";

/// The flights as text, ready for COPY, and who flew them.
pub struct Flights {
    pub carriers: Arc<[Carrier]>,
    pub shared: Vec<u8>,
    pub alone: Vec<u8>,
}

pub struct Carrier {
    pub tenant: TenantId,
    pub code: String,
    pub name: String,
    pub placement: Placement,
    /// How many flights the file has of it.
    pub expected: u64,
    /// How many flights it sees when it reads all there are.
    pub seen: AtomicU64,
    /// Rows that came back to it and are another carrier's. There must be none.
    pub foreign: AtomicU64,
    pub looked_at: AtomicU64,
    pub operations: AtomicU64,
    pub cancelled: AtomicU64,
    pub panicked: AtomicU64,
    /// How many committed remarks were there in the end.
    pub found: AtomicU64,
    /// Every remark that was written, whatever became of it.
    remarks: Mutex<HashMap<i64, Fate>>,
    unexpected: Mutex<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    Shared,
    Database,
}

/// What is known of something that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its transaction has not been committed.
    RolledBack,
    /// Its commit was under way when the future was dropped: both ends are right.
    Unknown,
    /// The server has said that it is there.
    Committed,
}

impl Placement {
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Database => "database",
        }
    }
}

impl Flights {
    pub fn read() -> Result<Self, Failure> {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(FLIGHTS).read_to_end(&mut text)?;
        let mut reader = csv::Reader::from_reader(&*text);
        let header = reader.byte_headers()?.clone();
        let column = header
            .iter()
            .position(|name| name == b"carrier")
            .ok_or("the file has no column of carriers")?;
        let mut counts: HashMap<String, u64> = HashMap::new();
        let (mut shared, mut alone) = (
            csv::Writer::from_writer(vec![]),
            csv::Writer::from_writer(vec![]),
        );
        for flight in reader.byte_records() {
            let flight = flight?;
            let carrier = std::str::from_utf8(&flight[column])?;
            *counts.entry(carrier.to_owned()).or_default() += 1;
            let file = if carrier == ALONE {
                &mut alone
            } else {
                &mut shared
            };
            file.write_byte_record(&flight)?;
        }
        let mut carriers = Vec::new();
        for airline in csv::Reader::from_reader(AIRLINES).into_deserialize() {
            let (code, name): (String, String) = airline?;
            carriers.push(Carrier::new(code, name, &counts)?);
        }
        Ok(Self {
            carriers: carriers.into(),
            shared: shared.into_inner()?,
            alone: alone.into_inner()?,
        })
    }

    pub fn total(&self) -> u64 {
        self.carriers.iter().map(|carrier| carrier.expected).sum()
    }
}

impl Carrier {
    fn new(code: String, name: String, counts: &HashMap<String, u64>) -> Result<Self, Failure> {
        Ok(Self {
            tenant: code.parse()?,
            name,
            placement: match &*code {
                ALONE => Placement::Database,
                _ => Placement::Shared,
            },
            expected: counts.get(&code).copied().unwrap_or_default(),
            code,
            seen: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            looked_at: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            found: AtomicU64::new(0),
            remarks: Mutex::default(),
            unexpected: Mutex::default(),
        })
    }

    /// Looks at rows that came back: `owners` are what their carrier columns say.
    pub fn look_at<'a>(&self, owners: impl IntoIterator<Item = &'a str>) -> u64 {
        let (mut own, mut foreign) = (0, 0);
        for owner in owners {
            match owner == self.code {
                true => own += 1,
                false => foreign += 1,
            }
        }
        self.looked_at.fetch_add(own + foreign, Ordering::Relaxed);
        self.foreign.fetch_add(foreign, Ordering::Relaxed);
        own
    }

    pub fn wrote(&self, remark: i64, fate: Fate) {
        self.remarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(remark, fate);
    }

    pub fn remarks(&self) -> HashMap<i64, Fate> {
        self.remarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn committed(&self) -> usize {
        self.remarks()
            .values()
            .filter(|fate| **fate == Fate::Committed)
            .count()
    }

    /// Something went otherwise than it should have.
    pub fn note(&self, finding: String) {
        self.unexpected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{}: {finding}", self.code));
    }

    pub fn notes(&self) -> Vec<String> {
        self.unexpected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
