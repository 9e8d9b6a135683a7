@0xc1d0a9b2f3e44755;

struct Small {
  id @0 :Int64;
  name @1 :Text;
  tags @2 :List(Text);
  score @3 :Float64;
}

interface Echo {
  echo @0 (value :Small) -> (result :Small);
}
