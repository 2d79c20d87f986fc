mod ledger;
mod level;
