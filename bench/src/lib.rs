//! Load generator: closed and open loop, HDR histograms, JSON.
