//! A case: events, how they arrive, and what else happens meanwhile. All of it comes from one number.

/// One event. Times are in half seconds, so that many fall on the bounds of windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub time: i64,
    pub partition: i32,
    pub offset: i64,
    pub group: Option<u8>,
    pub value: Option<u8>,
    /// In quarters, so that sums are exact; or no number, or nothing.
    pub number: Option<Result<i64, &'static str>>,
    /// Which of the base rules it matches.
    pub bases: Vec<usize>,
    /// When it comes, in half seconds: no more than the lateness after its time, as its partition goes.
    pub arrives: i64,
}

#[derive(Clone, Debug)]
pub struct Case {
    /// In the order in which they arrive.
    pub events: Vec<Event>,
    pub partitions: i32,
    pub lateness: i64,
    /// Moves the watermark after so many events.
    pub marker_every: usize,
    /// Sends every so many-th match twice.
    pub duplicate_every: usize,
    /// Writes a third of the state out after every so many-th event, and once more after the watermark
    /// has moved; 0 is never.
    pub write_every: usize,
    /// Throws the state away after every so many-th event, and restores it; 0 is never.
    pub restore_every: usize,
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: i64) -> i64 {
        (self.next() % n.unsigned_abs().max(1)) as i64
    }

    fn one_in(&mut self, n: i64) -> bool {
        self.below(n) == 0
    }
}

impl Case {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let r = &mut random;
        let partitions = 1 + r.below(3) as i32;
        let lateness = [0, 0, 3, 25, 60][r.below(5) as usize];
        let span = [20, 60, 200, 400][r.below(4) as usize];
        let groups = 1 + r.below(3);
        let count = r.below(26);
        let behind: Vec<i64> = (0..partitions).map(|_| r.below(80)).collect();
        let mut events: Vec<Event> = (0..count)
            .map(|_| {
                let partition = r.below(partitions.into()) as i32;
                let time = r.below(span) - 40;
                let arrives = time + r.below(lateness + 1) + behind[partition as usize];
                let group = (!r.one_in(12)).then(|| r.below(groups) as u8);
                let value = (!r.one_in(12)).then(|| r.below(4) as u8);
                let number = match r.below(12) {
                    0 => None,
                    1 => Some(Err("many")),
                    _ => Some(Ok(r.below(22) - 5)),
                };
                let mut bases = vec![r.below(3) as usize];
                if r.one_in(6) {
                    bases.push((bases[0] + 1) % 3);
                }
                Event { time, partition, offset: 0, group, value, number, bases, arrives }
            })
            .collect();
        events.sort_by_key(|e| e.arrives);
        let mut next = [0; 3];
        for event in &mut events {
            event.offset = next[event.partition as usize];
            next[event.partition as usize] += 1;
        }
        Self {
            events,
            partitions,
            lateness,
            marker_every: 1 + r.below(8) as usize,
            duplicate_every: 2 + r.below(6) as usize,
            write_every: [0, 1, 2, 5][r.below(4) as usize],
            restore_every: [0, 0, 1, 3][r.below(4) as usize],
        }
    }
}
