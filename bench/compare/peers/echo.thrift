struct Small {
  1: i64 id,
  2: string name,
  3: list<string> tags,
  4: double score
}

service Echo {
  Small echo(1: Small value)
}
