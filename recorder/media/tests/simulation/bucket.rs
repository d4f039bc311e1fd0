//! Object storage with conditional writes, and what may go wrong between it and a recorder.

use super::support::Lcg;
use recorder_media::Manifest;
use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Segment(Rc<Vec<u8>>),
    Playlist(Rc<str>),
    /// With its chunks.
    Manifest(Rc<Manifest>),
}

#[derive(Clone, Debug)]
pub struct Object {
    pub body: Body,
    pub etag: u64,
}

#[derive(Clone, Debug)]
pub enum Condition {
    /// If-None-Match: *
    Absent,
    /// If-Match
    Matches(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 503, time-out, no connection.
    Retryable,
    /// 403
    Denied,
    /// 412
    Conflict,
}

#[derive(Clone, Debug)]
pub enum Request {
    Put { key: String, body: Body, condition: Condition },
    Get { key: String },
    Remove { key: String },
}

#[derive(Clone, Debug)]
pub enum Reply {
    Put(Result<u64, Failure>),
    Got(Result<Option<Object>, Failure>),
    Removed(Result<(), Failure>),
}

/// How a bucket behaves for now.
#[derive(Clone, Copy, Debug)]
pub struct Mood {
    /// A request takes this long, and up to twice as long.
    pub delay_us: u64,
    /// Percent of requests that are refused.
    pub failing: u64,
    /// What is refused is refused for good: 403.
    pub denies: bool,
    /// Percent of writes that are carried out while the answer is lost.
    pub answers_lost: u64,
    /// Percent of writes that time out and are carried out afterwards.
    pub late: u64,
}

impl Mood {
    pub const WELL: Self = Self { delay_us: 20_000, failing: 0, denies: false, answers_lost: 0, late: 0 };
    pub const AWAY: Self = Self { failing: 100, ..Self::WELL };
    pub const DENIES: Self = Self { failing: 100, denies: true, ..Self::WELL };
    pub const SLOW: Self = Self { delay_us: 1_500_000, ..Self::WELL };
    pub const SHAKY: Self = Self { delay_us: 100_000, failing: 15, answers_lost: 10, late: 5, denies: false };
}

/// A request's way: when it takes effect, and when and how it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// None: never.
    pub effect_us: Option<u64>,
    pub answer_us: u64,
    /// Instead of what came of it.
    pub refused: Option<Failure>,
}

#[derive(Debug)]
pub struct Bucket {
    pub objects: BTreeMap<String, Object>,
    pub mood: Mood,
    next_etag: u64,
    rng: Lcg,
}

impl Bucket {
    pub fn new(seed: u64) -> Self {
        Self { objects: BTreeMap::new(), mood: Mood::WELL, next_etag: 1, rng: Lcg(seed) }
    }

    /// Decided when the request is sent.
    pub fn way(&mut self, request: &Request) -> Way {
        let Mood { delay_us, failing, denies, answers_lost, late } = self.mood;
        let takes = delay_us + self.rng.below(delay_us + 1);
        let writes = !matches!(request, Request::Get { .. });
        let (refused, lost, late) = (self.rng.chance(failing), self.rng.chance(answers_lost) && writes, self.rng.chance(late) && writes);
        match (refused, lost, late) {
            (true, ..) if denies => Way { effect_us: None, answer_us: takes, refused: Some(Failure::Denied) },
            (true, ..) => Way { effect_us: None, answer_us: takes, refused: Some(Failure::Retryable) },
            (_, true, _) => Way { effect_us: Some(takes / 2), answer_us: takes, refused: Some(Failure::Retryable) },
            (.., true) => Way { effect_us: Some(takes * 4), answer_us: takes, refused: Some(Failure::Retryable) },
            _ => Way { effect_us: Some(takes / 2), answer_us: takes, refused: None },
        }
    }

    /// A claim or a look at the start, in one: what the mood says of it.
    pub fn refuses(&mut self) -> bool {
        let failing = self.mood.failing;
        self.rng.chance(failing)
    }

    /// The second value: something has changed. The same content under a key is no conflict (a recorder's own retry).
    pub fn carry_out(&mut self, request: &Request) -> (Reply, bool) {
        match request {
            Request::Get { key } => (Reply::Got(Ok(self.objects.get(key).cloned())), false),
            Request::Remove { key } => {
                let changed = self.objects.remove(key).is_some();
                (Reply::Removed(Ok(())), changed)
            }
            Request::Put { key, body, condition } => self.put(key, body, condition),
        }
    }

    fn put(&mut self, key: &str, body: &Body, condition: &Condition) -> (Reply, bool) {
        let known = self.objects.get(key);
        let holds = match (known, condition) {
            (None, Condition::Absent) => true,
            (Some(object), Condition::Matches(etag)) => object.etag == *etag,
            _ => false,
        };
        match known {
            _ if holds => {}
            Some(object) if object.body == *body => return (Reply::Put(Ok(object.etag)), false),
            _ => return (Reply::Put(Err(Failure::Conflict)), false),
        }
        (Reply::Put(Ok(self.store(key, body.clone()))), true)
    }

    pub fn store(&mut self, key: &str, body: Body) -> u64 {
        let etag = self.next_etag;
        self.next_etag += 1;
        self.objects.insert(key.to_owned(), Object { body, etag });
        etag
    }

    pub fn manifest(&self) -> Option<(&Rc<Manifest>, u64)> {
        match self.objects.get(MANIFEST) {
            Some(Object { body: Body::Manifest(manifest), etag }) => Some((manifest, *etag)),
            _ => None,
        }
    }

    pub fn has_segment(&self, name: &str) -> bool {
        matches!(self.objects.get(name), Some(Object { body: Body::Segment(_), .. }))
    }

    pub fn segment(&self, name: &str) -> Option<&Rc<Vec<u8>>> {
        match self.objects.get(name) {
            Some(Object { body: Body::Segment(data), .. }) => Some(data),
            _ => None,
        }
    }

    pub fn playlists(&self) -> impl Iterator<Item = (&str, &str)> {
        self.objects.iter().filter_map(|(key, object)| match &object.body {
            Body::Playlist(text) => Some((key.as_str(), text.as_ref())),
            _ => None,
        })
    }
}

pub const MANIFEST: &str = "rec_room.json";
