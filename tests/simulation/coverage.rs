//! What happened in the runs: a check that never had anything to look at proves nothing.

macro_rules! seen {
    ($($name:ident: $at_least:literal),+ $(,)?) => {
        /// Something that can happen in a run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Seen { $($name),+ }

        impl Seen {
            /// Every value, and how often a thousand runs must show it at least.
            pub(crate) const ALL: &[(Self, u64)] = &[$((Self::$name, $at_least)),+];
        }
    };
}

seen! {
    CalmRuns: 20,
    IsolationRuns: 20,
    RoughRuns: 300,
    LongRuns: 100,
    RecordsProduced: 50_000,
    Sends: 50_000,
    // The group.
    Rebalances: 2_000,
    PartitionsRevoked: 1_000,
    RevokesAtDeadline: 8,
    DrainsAnswered: 200,
    DrainsAtDeadline: 20,
    DrainsDuringRevoke: 5,
    AssignmentsLost: 100,
    Kicks: 100,
    Freezes: 100,
    SendsByExpelledMembers: 100,
    Crashes: 300,
    // Where partitions begin.
    StartsCommitted: 500,
    StartsAtFile: 500,
    StartsNewPartition: 100,
    StartsExpired: 10,
    QuestionsFailed: 50,
    GroupsLeftUnanswered: 5,
    PartitionsAdded: 100,
    TopicsRecreated: 50,
    RetentionRuns: 50,
    // Commits.
    CommitsAccepted: 5_000,
    CommitsFailed: 500,
    CommitAnswersLost: 300,
    CommitsRefused: 100,
    CommitsNotOwned: 30,
    // Reading.
    Holes: 1_000,
    MarkersAtTheEnd: 100,
    EndsOfPartition: 2_000,
    ChunksOutOfOrder: 500,
    RecordsBelowBase: 100,
    Pauses: 500,
    Resumes: 300,
    RoomZero: 1_000,
    // Receivers.
    Retries: 5_000,
    PushBacks: 1_000,
    Rejects: 1_000,
    EndpointFaults: 200,
    Gone: 50,
    ConnectsRefused: 1_000,
    Timeouts: 1_000,
    AcceptedButTimedOut: 200,
    ArrivedAfterTimeout: 50,
    ArrivedAfterCrash: 50,
    DroppedByAnswer: 100,
    CannotBeMade: 100,
    Panicked: 100,
    Repeats: 500,
    // Late results.
    StaleAttempts: 500,
    StaleWrites: 50,
    LateForDeletedTopic: 20,
    StaleWhileSameOffsetInFlight: 20,
    // Dead letters.
    LettersRejected: 500,
    LettersExhausted: 500,
    LettersExpired: 50,
    LettersUndecodable: 100,
    LettersUnrenderable: 100,
    LettersPanic: 100,
    LettersTwice: 20,
    WritesFailed: 200,
    WriteAcksLost: 100,
    WritesTooLarge: 100,
    WritesLandedAfterCrash: 5,
    // Records nobody wants.
    NotMatched: 1_000,
    DroppedByRule: 300,
    WallClockJumps: 50,
    // The ladder.
    Ladder1m: 2000,
    Ladder5m: 2000,
    Ladder30m: 1000,
    Ladder2h: 500,
    Ladder8h: 200,
    Hops: 2000,
    LadderTooLarge: 1,
    KeptBack: 5000,
    CameUp: 5000,
    Foreign: 3000,
    RuleRemoved: 30,
    Opened: 500,
    Closed: 500,
    StoppedAsGone: 200,
    Suspects: 300,
    Braked: 0,
    BrakesReleased: 0,
    ForeignMetadata: 500,
    SurelySpent: 3000,
    Aborted: 20,
    HeldUp: 0,
    KeysHeld: 100,
    SchedulesChanged: 100,
    DestinationsRemoved: 30,
    Trickles: 3000,
}

/// How often each thing was seen.
#[derive(Debug, Clone)]
pub(crate) struct Coverage([u64; Seen::ALL.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; Seen::ALL.len()])
    }
}

impl Coverage {
    pub(crate) fn see(&mut self, seen: Seen) {
        self.add(seen, 1);
    }

    pub(crate) fn add(&mut self, seen: Seen, times: u64) {
        self.0[seen as usize] += times;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// What was seen less often than `runs` runs should have shown it.
    pub(crate) fn too_rare(&self, runs: u64) -> Vec<String> {
        let rare = |&(seen, at_least): &(Seen, u64)| {
            let wanted = at_least * runs / 1000;
            let times = self.0[seen as usize];
            (times < wanted).then(|| format!("{seen:?}: {times} times, not {wanted}"))
        };
        Seen::ALL.iter().filter_map(rare).collect()
    }

    /// A table for people.
    pub(crate) fn table(&self) -> String {
        let line = |&(seen, _): &(Seen, u64)| {
            format!(
                "  {:<28} {:>10}\n",
                format!("{seen:?}"),
                self.0[seen as usize]
            )
        };
        Seen::ALL.iter().map(line).collect()
    }
}
