//! Every constant a decision rests on, each with its reason.

use std::time::Duration;

/// The engine's constants. The defaults are what design and measurement settled on.
#[derive(Debug, Clone)]
pub struct Config {
    /// How often time alone can change a decision. A tenth of a second is what a hand feels as at once; a world of thousands of
    /// engines may take half a second.
    pub tick: Duration,
    /// While something presses the full pass is made again this often, if anything happened: what a link with room waits for it
    /// is a tenth of a round trip.
    pub pressing: Duration,
    /// A block due within this is urgent: below it a lost request could not be repeated in time on a slow path.
    pub urgent: Duration,
    /// A block due within this is in the window, where forecasts decide. Longer would ask the server for what the swarm
    /// still has time to bring; shorter leaves a bid no time to be granted and delivered.
    pub window: Duration,
    /// Media to have before the clock starts. Less starts sooner but stalls on the first hiccup of a TCP ramp.
    pub start: Duration,
    /// Media to have before the clock goes on after a stall: more than at the start, since the forecast just erred.
    pub rebuffer: Duration,
    /// With this much here the clock runs even if the forecast expects a late block further on: waiting longer would not
    /// end for a swarm slower than the film, and the viewer can pause.
    pub start_anyway: Duration,
    /// Requests kept at a peer, in time at its rate beyond the round trip. libtorrent answers a request at once into its own
    /// send buffer, from where no cancel takes it back: all that is queued stands before the first block of a seek, and
    /// a block given away early is not to be had of who turns out to be faster. With one second (the usual choice for
    /// downloads) a seek took 1.7 s on a bed of eight seeds, with a quarter 0.7 s, with this 0.5 s, and about as many
    /// bytes came in the same time: a request follows each block at once.
    pub queue_time: Duration,
    /// The same while something is urgent: deeper, since rates are still being learnt then (a TCP ramp, a link that has just
    /// answered), but the same for all: a slow link must not be given blocks early for being uneven as well.
    pub queue_time_urgent: Duration,
    /// The most that is added to it for a link whose answers come unevenly: four of its mean deviations.
    pub queue_uneven: Duration,
    /// The most that a pulsing peer is kept filled for, in time at its rate: Transmission serves every half second, and
    /// three of its bursts let a queue that began with two blocks reach its rate within about two seconds.
    pub pulse: Duration,
    /// Deviation assumed for a link that answered nothing yet: with a server at hand it begins with blocks due later.
    pub young_deviation: Duration,
    /// How long a link that answered nothing yet counts as waking: Transmission keeps a new peer choked for up to its
    /// round of ten seconds.
    pub waking: Duration,
    /// Blocks asked of a link whose rate is not known yet: two keep its pipe from running empty between them.
    pub queue_min: usize,
    /// libtorrent and others drop requests beyond 250 by default.
    pub queue_max: usize,
    /// Rate assumed for a link while nothing is known of any, bytes per second.
    pub rate_unknown: f64,
    /// Round trip assumed where none was measured.
    pub rtt_unknown: Duration,
    /// Weight of the newest sample in means and mean deviations (0.9/0.1).
    pub smoothing: f64,
    /// Time constant over which a link's measured bytes and busy time fade.
    pub rate_memory: Duration,
    /// A forecast must hold with this many mean deviations to spare, or the block is forecast to miss. Four is TCP's own
    /// choice for its retransmission timer (RFC 6298) and errs rarely for skewed delays.
    pub miss_deviations: f64,
    /// An urgent block is hedged when it is later than forecast by this many deviations.
    pub hedge_deviations: f64,
    /// Hedges never come sooner than this after the request: below it deviation is noise of a few packets.
    pub hedge_floor: Duration,
    /// Share of received bytes that hedging may cost.
    pub hedge_share: f64,
    /// What must be left to a deadline beyond what the server needs: of a block asked of a link whose rate is a guess, and before
    /// a block under way is asked of the server as well. Playing at the brink would make each small error of a guess a stall. Of a
    /// measured link its own deviation says more: this on top of it was film held ahead, and of the server, for nothing.
    pub comfort: Duration,
    /// What the server must save before it completes a block that a peer was asked for: less mostly buys duplicates.
    pub completing_gain: Duration,
    /// Requests sent to a link that had answered nothing yet count as late only after this much more.
    pub guess_grace: Duration,
    /// Spare time kept between the server's expected delivery and a deadline, and between that of a measured link and the last
    /// moment at which a server could step in. With none of the second, a third of what ten seeds of 50 kbit/s could send was lost.
    pub margin: Duration,
    /// A grant that is not used for this long lapses.
    pub grant_life: Duration,
    /// Bids are made this often.
    pub bid_every: Duration,
    /// How far ahead a bid looks.
    pub horizon: Duration,
    /// The first ranged GET of an origin whose rate is unknown, bytes.
    pub fetch_first: u64,
    /// A range asked of a server at once, in time at its rate: longer ranges cannot be given back when peers catch up.
    pub fetch_time: Duration,
    /// A link that delivers nothing for this long while asked is treated as dead until it does.
    pub snub: Duration,
    /// An unanswered request is withdrawn after this.
    pub request_timeout: Duration,
    /// Bitrate assumed while neither index nor duration is known, bits per second.
    pub assumed_bitrate: f64,
    /// Peers unchoked for what they give, and one more at random (BEP 3's customary numbers).
    pub upload_slots: usize,
    /// Choking is decided anew this often: shorter makes fibrillation, longer starves newcomers.
    pub choke_round: Duration,
    /// The optimistic slot moves on after this many rounds.
    pub optimistic_rounds: u32,
    /// Who gives nothing for this long although asked has no claim to a slot (BEP 3 and the original client: a minute).
    pub anti_snub: Duration,
    /// Uploads go a block at a time to each peer while less than this is buffered and no server is at hand.
    pub upload_floor: Duration,
    /// Requests of a peer that are remembered.
    pub upload_queue: usize,
    /// Whether peers are held back while server bytes are due. Off only to measure what that gains.
    pub priority: bool,
    /// What peers keep, as a share of the access link, however much the server needs.
    pub peer_share_min: f64,
    /// Arrivals above this share of the measured capacity mean that the access link is full.
    pub link_full: f64,
    /// The same while the picture stands and waits for a server. The capacity is the best second ever seen, and twenty peers whose
    /// blocks end together make that a fifth better than the line is: with the share above, one jump in two waited for
    /// half a second to three until a hold began. One that is of no use ends soon.
    pub link_full_waiting: f64,
    /// Links worth having at once.
    pub links_wanted: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(100),
            pressing: Duration::from_millis(10),
            urgent: Duration::from_secs(3),
            window: Duration::from_secs(15),
            start: Duration::from_secs(2),
            rebuffer: Duration::from_secs(4),
            start_anyway: Duration::from_secs(15),
            queue_time: Duration::from_millis(50),
            queue_time_urgent: Duration::from_millis(100),
            queue_uneven: Duration::from_millis(200),
            pulse: Duration::from_millis(1500),
            young_deviation: Duration::from_millis(300),
            waking: Duration::from_secs(10),
            queue_min: 2,
            queue_max: 250,
            rate_unknown: 125_000.0,
            rtt_unknown: Duration::from_millis(100),
            smoothing: 0.1,
            rate_memory: Duration::from_secs(3),
            miss_deviations: 4.0,
            hedge_deviations: 2.0,
            hedge_floor: Duration::from_millis(150),
            hedge_share: 0.03,
            completing_gain: Duration::from_millis(500),
            guess_grace: Duration::from_secs(1),
            comfort: Duration::from_millis(750),
            margin: Duration::from_millis(250),
            grant_life: Duration::from_secs(2),
            bid_every: Duration::from_secs(1),
            horizon: Duration::from_secs(15),
            fetch_first: 256 * 1024,
            fetch_time: Duration::from_millis(700),
            snub: Duration::from_secs(6),
            request_timeout: Duration::from_secs(30),
            assumed_bitrate: 4_000_000.0,
            upload_slots: 4,
            choke_round: Duration::from_secs(10),
            optimistic_rounds: 3,
            anti_snub: Duration::from_secs(60),
            upload_floor: Duration::from_secs(3),
            upload_queue: 500,
            priority: true,
            peer_share_min: 0.1,
            link_full: 0.85,
            link_full_waiting: 0.6,
            links_wanted: 60,
        }
    }
}
