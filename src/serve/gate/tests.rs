mod bids;
mod hostile;
mod queue;
mod turns;
