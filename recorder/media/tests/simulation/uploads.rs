//! What a recorder's uploader does about one order: one request after the other (recorder, `uploader.rs`).

use super::bucket::{Body, Condition, Failure, MANIFEST, Object, Reply, Request};
use super::disk::Disk;
use recorder_media::*;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

#[derive(Debug)]
pub enum Work {
    Segment {
        name: String,
    },
    /// From the spool or from the backup.
    Move {
        name: String,
    },
    Document {
        key: String,
        body: Body,
    },
    Remove {
        keys: VecDeque<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    /// Is there a newer attempt? Before a document that this process does not know yet.
    Ask,
    Put,
    /// Whose is what stands in the way of a segment?
    AskAfter,
    /// What stands in the way of a document, and then whose it is.
    LookOver,
    AskOver,
    PutOver,
    Fetch,
    FetchPrimary,
    Remove,
}

#[derive(Debug)]
pub struct Task {
    pub op: OpId,
    pub to: Place,
    pub work: Work,
    stage: Stage,
    /// The storage whose manifest was asked for last.
    asked: Place,
    copy: Option<Rc<Vec<u8>>>,
    over: Option<u64>,
}

pub enum Next {
    Ask(Place, Request),
    Done(Box<Input>),
}

/// ETags of documents that this process wrote or read last.
pub type Etags = BTreeMap<(Place, String), u64>;

fn into_media(failure: Failure) -> StoreError {
    match failure {
        Failure::Retryable => StoreError::Retryable("503".into()),
        Failure::Denied => StoreError::Refused("403".into()),
        Failure::Conflict => StoreError::Refused("another object of this name is in the storage".into()),
    }
}

/// None: storage gave no answer.
fn is_newer(reply: &Result<Option<Object>, Failure>, attempt: u32) -> Result<bool, Failure> {
    match reply {
        Ok(Some(Object { body: Body::Manifest(manifest), .. })) => Ok(manifest.epoch > attempt),
        Ok(_) => Ok(false),
        Err(failure) => Err(*failure),
    }
}

impl Task {
    pub fn new(op: OpId, to: Place, work: Work) -> Self {
        Self { op, to, work, stage: Stage::Begin, asked: to, copy: None, over: None }
    }

    pub fn is_document(&self) -> bool {
        matches!(self.work, Work::Document { .. } | Work::Remove { .. })
    }

    fn uploaded(&self, result: Result<Stored, StoreError>) -> Next {
        Next::Done(Input::Uploaded { op: self.op, result }.into())
    }

    fn put_done(&self, result: Result<(), StoreError>) -> Next {
        Next::Done(Input::Put { op: self.op, result }.into())
    }

    fn ask(&mut self, stage: Stage, place: Place, key: &str) -> Next {
        self.stage = stage;
        Next::Ask(place, Request::Get { key: key.to_owned() })
    }

    fn ask_who_is_newest(&mut self, stage: Stage) -> Next {
        self.asked = self.to;
        self.ask(stage, self.to, MANIFEST)
    }

    /// Err: the next question. Behind the backup the primary is asked: a newer attempt that needs the backup no more has cleared it.
    fn is_superseded(&mut self, found: &Result<Option<Object>, Failure>, attempt: u32) -> Result<Result<bool, Failure>, Next> {
        match (is_newer(found, attempt), self.asked, self.to) {
            (Ok(false), Place::Backup, _) => {
                self.asked = Place::Primary;
                Err(self.ask(self.stage, Place::Primary, MANIFEST))
            }
            // A primary that gives no answer is what the backup is for.
            (Err(_), Place::Primary, Place::Backup) => Ok(Ok(false)),
            (answer, ..) => Ok(answer),
        }
    }

    pub fn advance(&mut self, reply: Option<Reply>, attempt: u32, disk: &Disk, etags: &mut Etags) -> Next {
        match &self.work {
            Work::Segment { .. } | Work::Move { .. } => self.segment(reply, attempt, disk),
            Work::Document { key, body } => {
                let (key, body) = (key.clone(), body.clone());
                self.document(reply, attempt, etags, key, body)
            }
            Work::Remove { .. } => self.removal(reply, etags),
        }
    }

    fn segment(&mut self, reply: Option<Reply>, attempt: u32, disk: &Disk) -> Next {
        let (Work::Segment { name } | Work::Move { name }) = &self.work else { unreachable!("asked for segments only") };
        let name = name.clone();
        let moves = matches!(self.work, Work::Move { .. });
        match (self.stage, reply) {
            (Stage::Begin, _) => match disk.segments.get(&name) {
                Some(data) => {
                    self.copy = Some(data.clone());
                    self.put_segment(&name)
                }
                None if moves => self.ask(Stage::Fetch, Place::Backup, &name),
                None => self.uploaded(Err(StoreError::Gone("not in the spool any more".into()))),
            },
            (Stage::Fetch, Some(Reply::Got(Ok(Some(Object { body: Body::Segment(data), .. }))))) => {
                self.copy = Some(data);
                self.put_segment(&name)
            }
            (Stage::Fetch, Some(Reply::Got(Ok(_)))) => self.ask(Stage::FetchPrimary, Place::Primary, &name),
            (Stage::FetchPrimary, Some(Reply::Got(Ok(Some(found))))) => self.uploaded(Ok(Stored { etag: found.etag.to_string() })),
            (Stage::FetchPrimary, Some(Reply::Got(Ok(None)))) => self.uploaded(Err(StoreError::Gone("not in the backup".into()))),
            (Stage::Fetch | Stage::FetchPrimary, Some(Reply::Got(Err(failure)))) => self.uploaded(Err(into_media(failure))),
            (Stage::Put, Some(Reply::Put(Ok(etag)))) => self.uploaded(Ok(Stored { etag: etag.to_string() })),
            (Stage::Put, Some(Reply::Put(Err(Failure::Conflict)))) => self.ask_who_is_newest(Stage::AskAfter),
            (Stage::Put, Some(Reply::Put(Err(failure)))) => self.uploaded(Err(into_media(failure))),
            (Stage::AskAfter, Some(Reply::Got(found))) => match self.is_superseded(&found, attempt) {
                Ok(Ok(true)) => self.uploaded(Err(StoreError::Superseded)),
                Ok(_) => self.uploaded(Err(into_media(Failure::Conflict))),
                Err(next) => next,
            },
            other => unreachable!("{other:?}"),
        }
    }

    fn put_segment(&mut self, name: &str) -> Next {
        self.stage = Stage::Put;
        let data = self.copy.clone().unwrap_or_default();
        Next::Ask(self.to, Request::Put { key: name.to_owned(), body: Body::Segment(data), condition: Condition::Absent })
    }

    fn document(&mut self, reply: Option<Reply>, attempt: u32, etags: &mut Etags, key: String, body: Body) -> Next {
        let place = self.to;
        match (self.stage, reply) {
            (Stage::Begin, _) => {
                let known = etags.get(&(place, key.clone())).copied();
                match (known, &body) {
                    (None, Body::Playlist(_)) => self.ask_who_is_newest(Stage::Ask),
                    _ => self.put_document(Stage::Put, key, body, known),
                }
            }
            (Stage::Ask, Some(Reply::Got(found))) => match self.is_superseded(&found, attempt) {
                Ok(Ok(true)) => self.put_done(Err(StoreError::Superseded)),
                Ok(Err(Failure::Retryable)) => self.put_done(Err(into_media(Failure::Retryable))),
                Ok(_) => self.put_document(Stage::Put, key, body, None),
                Err(next) => next,
            },
            (Stage::Put | Stage::PutOver, Some(Reply::Put(Ok(etag)))) => {
                etags.insert((place, key), etag);
                self.put_done(Ok(()))
            }
            (Stage::Put, Some(Reply::Put(Err(Failure::Conflict)))) => self.ask(Stage::LookOver, place, &key),
            (Stage::LookOver, Some(Reply::Got(Ok(found)))) => {
                self.over = found.map(|object| object.etag);
                self.ask_who_is_newest(Stage::AskOver)
            }
            (Stage::AskOver, Some(Reply::Got(found))) => match self.is_superseded(&found, attempt) {
                Ok(Ok(true)) => self.put_done(Err(StoreError::Superseded)),
                Ok(Ok(false)) => self.put_document(Stage::PutOver, key, body, self.over),
                Ok(Err(failure)) => self.put_done(Err(into_media(failure))),
                Err(next) => next,
            },
            (Stage::PutOver, Some(Reply::Put(Err(Failure::Conflict)))) => self.put_done(Err(into_media(Failure::Retryable))),
            (_, Some(Reply::Put(Err(failure)) | Reply::Got(Err(failure)))) => self.put_done(Err(into_media(failure))),
            other => unreachable!("{other:?}"),
        }
    }

    fn put_document(&mut self, stage: Stage, key: String, body: Body, over: Option<u64>) -> Next {
        self.stage = stage;
        let condition = over.map_or(Condition::Absent, Condition::Matches);
        Next::Ask(self.to, Request::Put { key, body, condition })
    }

    fn removal(&mut self, reply: Option<Reply>, etags: &mut Etags) -> Next {
        let Work::Remove { keys } = &mut self.work else { unreachable!("asked for removals only") };
        match reply {
            Some(Reply::Removed(Err(failure))) => return self.put_done(Err(into_media(failure))),
            Some(_) => {
                let gone = keys.pop_front().unwrap_or_default();
                etags.remove(&(self.to, gone));
            }
            None => {}
        }
        let next = keys.front().cloned();
        self.stage = Stage::Remove;
        match next {
            Some(key) => Next::Ask(self.to, Request::Remove { key }),
            None => self.put_done(Ok(())),
        }
    }
}
