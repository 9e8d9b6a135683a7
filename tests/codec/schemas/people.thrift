enum Color {
  RED = 1,
  BLUE = 2,
}

struct Point {
  1: required i32 x,
  2: i32 y = 2,
}

struct Everything {
  1: bool yes,
  2: byte tiny,
  3: i16 small,
  4: i32 whole,
  5: i64 large,
  6: double real,
  7: string text,
  8: binary data,
  9: list<i64> numbers,
  10: set<string> words,
  11: map<string, i32> counts,
  12: list<Point> points,
  13: map<i64, list<list<Point>>> deep,
  14: Color color,
  15: Point point,
  16: list<binary> parts,
  17: list<Color> colors,
  18: map<i64, string> names,
  19: map<string, Point> places,
}

struct Tree {
  1: list<Tree> kids,
}

struct Keyed {
  1: map<Point, i32> points,
}

// Yesterday's user and today's: a field added, one removed, one renamed, one widened.

struct UserOld {
  1: i32 id,
  2: string name,
  3: string phone,
  4: i32 score,
}

struct UserNew {
  1: i32 id,
  2: string full_name,
  4: i64 score = -1,
  5: list<string> tags = [],
}
