package store

// OccurrencesSQL is for the test that holds it to package strategy.
const OccurrencesSQL = occurrencesSQL
