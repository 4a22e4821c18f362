//! Epochs: ranges of ids, which the indexes of messages begin with.
//!
//! An index over all accounts or conversations has its right edges everywhere: five hundred messages would write a
//! thousand pages, more of them the more there are. With the epoch in front they write to the newest epoch's part of the
//! index, whose few pages are in memory; and whoever looks for an account or a conversation looks into each epoch. A new
//! epoch begins when the newest is full, with the first id that no message has had yet, so epochs are in the order of
//! their ids, and an id belongs to one epoch for ever.

/// The epochs: the first id and the number of each, by their first ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Epochs(pub(crate) Vec<(i64, i64)>);

impl Epochs {
    /// The epoch of an id.
    pub(crate) fn of(&self, id: i64) -> i64 {
        let after = self.0.partition_point(|(first, _)| *first <= id);
        self.0.get(after.saturating_sub(1)).map_or(1, |(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::Epochs;

    #[test]
    fn an_id_is_of_the_epoch_that_began_last_before_it() {
        let epochs = Epochs(vec![(0, 1), (10, 4), (20, 5)]);
        assert_eq!([0, 9, 10, 19, 20, i64::MAX].map(|id| epochs.of(id)), [1, 1, 4, 4, 5, 5]);
        // What has an id before the first is in the oldest.
        assert_eq!(Epochs(vec![(5, 3)]).of(1), 3);
    }
}
