//! Bugs put in on purpose, to test the tests.
//!
//! A suite that has never failed proves nothing. With the feature `planted-bugs` each of these can
//! be switched on for one thread, and the storage suite must find it; without the feature, as in
//! every build but that test's, `planted!` is the constant `false` and nothing of it is compiled.

/// Whether the named bug is switched on.
#[cfg(not(feature = "planted-bugs"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

/// Whether the named bug is switched on.
#[cfg(feature = "planted-bugs")]
macro_rules! planted {
    ($bug:ident) => {
        $crate::base::planted::is_on($crate::base::planted::Bug::$bug)
    };
}

#[cfg(feature = "planted-bugs")]
pub use switch::{Bug, is_on, switch};

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    macro_rules! bugs {
        ($($(#[$list_doc:meta])* $list:ident { $($(#[$doc:meta])* $name:ident,)* })*) => {
            /// A bug that can be switched on.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Bug {
                $($($(#[$doc])* $name,)*)*
            }

            impl Bug {
                $($(#[$list_doc])* pub const $list: &[Self] = &[$(Self::$name),*];)*
            }
        };
    }

    bugs! {
        /// Those of the log.
        ALL {
            /// A flush says it is done without having synced the segment.
            AcknowledgeBeforeSync,
            /// A sync that failed is repeated, and believed.
            RetryFailedSync,
            /// A write that failed is forgotten: the log goes on behind it.
            RetryFailedWrite,
            /// Index files are used without their checksums: a zeroed tail reads as entries.
            TrustZeroIndexTail,
            /// What is damaged below the checkpoint is cut like a torn write.
            CutBelowCheckpoint,
            /// The entries of a directory are never synced.
            ForgetDirectorySync,
            /// A start takes batches without looking at their checksums.
            SkipChecksumInScan,
            /// A start takes batches whatever their offsets: one written elsewhere, or long ago.
            SkipOffsetsInScan,
            /// The checkpoint is written before what it vouches for is synced.
            CheckpointAheadOfSync,
            /// Of the two checkpoints the older is taken.
            OlderCheckpoint,
            /// Producer state says it is as of an end it does not know.
            StaleProducerSnapshot,
            /// Segments are removed before the log start that allows it is written down.
            RemoveBeforeLogStart,
            /// A segment is sealed, and so never read again, without having been synced.
            SealBeforeSync,
            /// Leader epochs found by a start are not noted.
            ForgetEpochs,
            /// Reads take no notice of the quarantine.
            ServeQuarantined,
            /// The quarantine is not written down.
            ForgetQuarantine,
            /// Damage takes all that follows it in its segment along.
            QuarantineTooMuch,
            /// A segment that has to be read again is trusted beyond the checkpoint.
            TrustBeyondCheckpoint,
            /// The scrubber reads and does not look at the checksums.
            ScrubBlindly,
            /// What a start has found after kill -9 is handed out without being synced.
            ServeUnsynced,
            /// What a start finds in the page cache is taken for something the next sync writes, though
            /// one before has failed.
            TrustPageCache,
            /// A clean stop takes its steps with nothing synced between them.
            CloseUnsynced,
            /// A log is cut, and its checkpoint vouches for what is gone.
            CutWhatIsVouchedFor,
            /// The removal of what was cut is not synced.
            ForgetCut,
            /// Producers are remembered as they were some time before the cut.
            KeepProducersOfCut,
            /// Gaps in the leader's log are not written down.
            ForgetGapsOfLeader,
        }
        /// Those of its compaction.
        COMPACTION {
            /// A marker is taken for one without data.
            DropMarkerWithData,
            /// What a transaction has written is forgotten where a segment ends (KAFKA-8351).
            ForgetDataBetweenSegments,
            /// A marker is judged by its key, like a record (KAFKA-14055).
            JudgeMarkersByKey,
            /// Tombstones go with the first pass (KAFKA-4529).
            DropTombstonesEarly,
            /// Tombstones of records the pass has not seen get their horizon.
            DateUnseenTombstones,
            /// Aborted records take the place of others.
            IgnoreAborts,
            /// Transactions without a marker count as committed.
            CompactUndecided,
            /// The last batch of a producer goes like any other.
            ForgetLastBatches,
            /// The last batch of a segment goes like any other.
            ForgetSegmentEnds,
            /// A replacement is put in its place without having been synced.
            SwapBeforeSync,
            /// The removal of replaced segments is not synced before their replacement has its
            /// name.
            ReplaceBeforeRemovalSync,
            /// Gaps are not written down before there can be some.
            ForgetGaps,
            /// A start does not finish what a crash has interrupted.
            ForgetSwap,
        }
        /// Those of groups.
        GROUPS {
            /// Members are told what is not committed yet.
            AnswerBeforeCommit,
            /// The generation of a request is not looked at.
            AcceptStaleGeneration,
            /// The next generation has the number of the last.
            RepeatGeneration,
            /// The group is written down before its members have their assignments.
            WriteBeforeAssignment,
            /// A static member's new id is not written down.
            ForgetReplacement,
            /// Offsets grow old while they are in use.
            ExpireOffsetsInUse,
            /// Members that are not heard of stay.
            ForgetSessions,
            /// Nobody takes over what a member that leaves has read.
            ForgetRebalanceOnLeave,
            /// A JoinGroup that was repeated is not answered.
            ForgetRepeatedJoin,
            /// A group is deleted without its offsets.
            ForgetTombstones,
        }
        /// Those of replication: one for each rule.
        REPLICATION {
            /// The high watermark counts what is only in page caches (H1).
            CountUndurable,
            /// The high watermark moves with fewer in sync than `min.insync.replicas` (H2).
            SkipMinInSync,
            /// The gate counts a replica whose joining is not committed (H2).
            GateOnMaximal,
            /// A replica joins without what the leader's epoch began with (S2).
            JoinBelowEpochStart,
            /// A replica joins on the word of an earlier process of it (S2, KIP-903).
            IgnoreBrokerEpoch,
            /// A leader that restarts goes on with its epoch (E1).
            KeepEpochOnRestart,
            /// A disk that was replaced goes for the old one (P9).
            MissWipedDisk,
            /// Followers cut to the high watermark (before KIP-101).
            TruncateToHighWatermark,
            /// A replica that is to leave counts no more before that is committed (S3).
            CountShrinkEarly,
            /// A replica that is to join counts only once that is committed (S3).
            CountExpandLate,
            /// Followers keep epochs in which they led and wrote nothing (E3).
            KeepEmptyEpochs,
            /// A leader does not look where its log and a follower's part (F2).
            SkipDivergence,
        }
        /// Those of whole clusters, in what carries decisions out: the simulator finds them.
        CLUSTER {
            /// Consumers are given what is not committed.
            ServeUncommitted,
            /// acks=all is answered once the leader has written.
            AcknowledgeAtAppend,
            /// A follower asks a new leader although its log is not cut yet.
            AskWhileCutting,
            /// Who is elected while its log is cut forgets its epoch with the tail.
            ForgetEpochOfCut,
            /// Roles are taken by metadata of an earlier process (E2).
            ActOnOldMetadata,
            /// The controller answers although it does not know what became of its entry.
            AnswerUncertain,
            /// Who is fenced stays in sync where others are.
            KeepFenced,
            /// Who leaves may go although it leads what others could (P6).
            LetGoWhoLeads,
            /// Records are said to be deleted once they are where the partition is led.
            AnswerAtDeletion,
            /// A reassignment is complete before the new replicas have caught up (P7).
            CompleteMoveEarly,
            /// Any replica that lives is elected (L2).
            ElectAnybody,
            /// Who was in sync stays eligible however many are in sync (L1).
            KeepEligible,
            /// A log is cut, and its producers stay as they were.
            KeepProducersOfTail,
            /// A sync of what the log was before counts for what it is now.
            CountFlushOfBefore,
            /// A follower says that it has on disk what it has written.
            ReportUnsynced,
            /// The partition's epoch of a leader's request is not looked at.
            AcceptStaleAlter,
            /// Who was refused once is not waited for any more, though the question was asked twice (S3).
            BelieveOneRefusal,
            /// Who was in sync stays eligible when fewer have to be (L1).
            ForgetToSettle,
            /// Snapshots of the metadata leave out who is eligible.
            ForgetEligible,
            /// Logs are found by the name of their topic.
            FindLogByName,
            /// A start takes all it finds for committed.
            ServeAllAtStart,
            /// Blocks of producer ids are not written down.
            ForgetProducerIds,
            /// Answers of an earlier question are used (F5).
            UseOldAnswers,
            /// A batch is appended however often it comes.
            AppendTwice,
            /// What the scrubber finds damaged is told to nobody.
            ForgetDamage,
            /// A follower does not look at the checksums of what its leader has.
            TakeDamaged,
        }
        /// Those of coordinators in a cluster.
        COORDINATORS {
            /// They answer once they have written.
            AnswerAtAppend,
        }
        /// Rules of replication that others imply: without them nothing goes wrong.
        IMPLIED {
            /// Fetches of an earlier leadership are answered (F1).
            IgnoreFetchEpoch,
        }
        /// Those of groups of the consumer protocol.
        CONSUMER_GROUPS {
            /// What a member of a consumer group was asked to give back is given to others at once.
            ForgetRevocation,
            /// The epoch of a member of a consumer group is not looked at.
            AcceptStaleMemberEpoch,
            /// What a member has is not written down.
            ForgetCurrent,
            /// Who shall have what is not decided anew.
            ForgetTarget,
            /// Nobody notices that topics have grown.
            ForgetTopics,
            /// A classic group that has come back from the consumer protocol does not know after a
            /// restart that it has to rebalance.
            ForgetPendingRebalance,
        }
    }

    thread_local! {
        static ON: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Switches `bug` on for this thread, or whatever is on off.
    pub fn switch(bug: Option<Bug>) {
        ON.set(bug);
    }

    /// Whether `bug` is on for this thread.
    #[must_use]
    pub fn is_on(bug: Bug) -> bool {
        ON.get() == Some(bug)
    }
}
