"""The text the small language model learns from: conversations and stories, all made up here by templates.

    python corpus.py COUNT [SEED]      prints documents
    python corpus.py held-out DIR      writes DIR/questions.jsonl and DIR/text.txt, which training never sees

A question is held out by what it asks (both numbers of a sum, the whole room of a riddle), not by its wording.
"""

import json
import random
import sys
import zlib
from pathlib import Path

BEGIN, END = "<|begin|>", "<|end|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SHORT_SYSTEMS = ["Answer in one word.", "Answer briefly.", "Be brief."]
LONG_SYSTEMS = ["Answer in one sentence.", "You are a helpful assistant.", "Answer in a whole sentence."]

COLOURS = "red blue green yellow white black orange purple pink brown grey golden".split()
THINGS = "cube ball cup box key pen book spoon plate lamp shoe hat ring coin stone brush fork bell".split()
PLACES = ["on the table", "in the bowl", "on the shelf", "under the bed", "in the basket", "in the drawer", "behind the door",
          "on the chair", "in the bag", "by the window", "on the floor", "under the table"]
WORDS = """fox lamp tree river house stone cloud bread horse moon apple chair grass paper wind milk snow bird ship road ring fire
           door sand leaf song wolf salt rain star bear rope""".split()
NUMBERS = "zero one two three four five six seven eight nine ten".split()
OPPOSITES = """hot cold, big small, up down, old young, fast slow, day night, happy sad, open closed, full empty, light dark,
               wet dry, hard soft, long short, left right, first last, high low, loud quiet, near far, rich poor, strong weak,
               early late, inside outside, clean dirty, thick thin"""
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
# animal: sound, home, legs, young
ANIMALS = {"dog": ("barks", "in a house", "four", "puppy"), "cat": ("meows", "in a house", "four", "kitten"),
           "cow": ("moos", "on a farm", "four", "calf"), "horse": ("neighs", "in a stable", "four", "foal"),
           "pig": ("grunts", "on a farm", "four", "piglet"), "sheep": ("bleats", "on a farm", "four", "lamb"),
           "duck": ("quacks", "on a pond", "two", "duckling"), "hen": ("clucks", "in a coop", "two", "chick"),
           "lion": ("roars", "in the savanna", "four", "cub"), "wolf": ("howls", "in the forest", "four", "cub"),
           "frog": ("croaks", "by a pond", "four", "tadpole"), "bee": ("buzzes", "in a hive", "six", "larva"),
           "owl": ("hoots", "in a tree", "two", "owlet"), "snake": ("hisses", "in the grass", "no", "snakelet"),
           "mouse": ("squeaks", "in a hole", "four", "pup"), "bear": ("growls", "in a cave", "four", "cub")}
COLOUR_OF = {"the sky": "blue", "grass": "green", "snow": "white", "a banana": "yellow", "coal": "black", "a tomato": "red",
             "chocolate": "brown", "a carrot": "orange", "a lemon": "yellow", "milk": "white", "a plum": "purple", "the sun": "yellow",
             "a strawberry": "red", "the night": "black", "an elephant": "grey", "a leaf": "green"}
NAMES = """Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Klara Leo Mia Noah Olga Paul Rosa Simon Tina Victor""".split()


def held_out(*key):
    return zlib.crc32(repr(key).encode()) % 10 == 0


class Turn:
    """A question, its answer as a sentence and in short, and what it asks (None: never held out)."""

    def __init__(self, user, answer, short=None, key=None):
        self.user, self.answer, self.short, self.key = user, answer, short or answer, key


def listed(items):
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def capital(text):
    return text[0].upper() + text[1:]


def article(noun):
    return "An" if noun[0] in "aeiou" else "A"


# ---- families of questions: random.Random → list of turns that belong together ----

def sums(r):
    a, b = r.randint(0, 49), r.randint(0, 49)
    if r.random() < 0.5:
        word, sign, value, key = "plus", "+", a + b, ("plus", min(a, b), max(a, b))
    else:
        a, b = max(a, b), min(a, b)
        word, sign, value, key = "minus", "-", a - b, ("minus", a, b)
    ask = r.choice(["What is {a} {w} {b}?", "How much is {a} {w} {b}?", "{a} {s} {b} = ?", "What is {a} {s} {b}?"])
    return [Turn(ask.format(a=a, b=b, w=word, s=sign), f"{a} {word} {b} is {value}.", f"{value}.", key)]


def compare(r):
    a, b = r.sample(range(100), 2)
    word = r.choice(["larger", "smaller"])
    first, second = (max(a, b), min(a, b)) if word == "larger" else (min(a, b), max(a, b))
    return [Turn(f"Which is {word}, {a} or {b}?", f"{first} is {word} than {second}.", f"{first}.", ("compare", a, b))]


def order(r):
    values = r.sample(range(10), r.choice([3, 3, 4]))
    up = r.random() < 0.7
    ask = r.choice(["Sort {}.", "Sort the numbers {}.", "Put {} in order."]) if up else "Sort {} from large to small."
    text = ", ".join(map(str, sorted(values, reverse=not up))) + "."
    return [Turn(ask.format(listed([str(v) for v in values])), text, text, ("order", up, tuple(values)))]


def count(r):
    a = r.randint(0, 40)
    b = a + r.randint(2, 8)
    values = list(range(a, b + 1))
    if r.random() < 0.3:
        values.reverse()
    text = ", ".join(map(str, values)) + "."
    return [Turn(f"Count from {values[0]} to {values[-1]}.", text, text, ("count", a, b))]


def sequence(r):
    kind, step = r.random(), r.choice([1, -1])
    word = "after" if step == 1 else "before"
    if kind < 0.4:
        n = r.randint(1, 98)
        return [Turn(r.choice(["Which number comes {} {}?", "What comes {} {}?"]).format(word, n),
                     f"{n + step} comes {word} {n}.", f"{n + step}.", ("next", n, word))]
    items = DAYS if kind < 0.7 else MONTHS
    i = r.randrange(len(items))
    other = items[(i + step) % len(items)]
    form = r.choice(["What comes {} {}?", "Which {} comes {} {}?"])
    noun = "day" if items is DAYS else "month"
    ask = form.format(word, items[i]) if form.count("{}") == 2 else form.format(noun, word, items[i])
    return [Turn(ask, f"{other} comes {word} {items[i]}.", f"{other}.", ("sequence", ask))]


def opposite(r):
    pair = r.choice(OPPOSITES.split(",")).split()
    if r.random() < 0.5:
        pair.reverse()
    ask = r.choice(["What is the opposite of {}?", "Which word is the opposite of {}?", "Tell me the opposite of {}."])
    ask = ask.format(pair[0])
    return [Turn(ask, f"The opposite of {pair[0]} is {pair[1]}.", f"{capital(pair[1])}.", ("opposite", ask))]


def facts(r):
    if r.random() < 0.35:
        thing = r.choice(list(COLOUR_OF))
        ask = r.choice(["What colour is {}?", "Which colour does {} have?", "Tell me the colour of {}."]).format(thing)
        return [Turn(ask, f"{capital(thing)} is {COLOUR_OF[thing]}.", f"{capital(COLOUR_OF[thing])}.", ("fact", ask))]
    animal = r.choice(list(ANIMALS))
    sound, home, legs, young = ANIMALS[animal]
    a = f"{article(animal).lower()} {animal}"
    asks, answer, short = r.choice([
        (["What does {} do?", "What sound does {} make?"], f"{capital(a)} {sound}.", f"It {sound}."),
        (["Where does {} live?", "Where is the home of {}?"], f"{capital(a)} lives {home}.", f"{capital(home)}."),
        (["How many legs does {} have?", "How many legs has {}?"], f"{capital(a)} has {legs} legs.", f"{capital(legs)}."),
        (["What is the young of {} called?", "What do we call the young of {}?"], f"The young of {a} is called a {young}.", f"A {young}."),
    ])
    ask = r.choice(asks).format(a)
    return [Turn(ask, answer, short, ("fact", ask))]


def room(r):
    n = r.choice([2, 2, 3, 3, 4])
    things = list(zip(r.sample(COLOURS, n), r.sample(THINGS, n), r.sample(PLACES, n)))
    text = " ".join(f"{r.choice(['The', 'The', article(c)])} {c} {t} is {p}." for c, t, p in things)
    key = ("room", tuple(sorted(t for _, t, _ in things)), tuple(sorted(p for _, _, p in things)))

    def ask():
        c, t, p = r.choice(things)
        other = r.choice([x for x in COLOURS if x != c])
        return r.choice([
            (f"Where is the {t}?", f"The {c} {t} is {p}.", f"{capital(p)}."),
            (f"Where is the {c} {t}?", f"The {c} {t} is {p}.", f"{capital(p)}."),
            (f"What colour is the {t}?", f"The {t} is {c}.", f"{capital(c)}."),
            (f"What is {p}?", f"The {c} {t} is {p}.", f"The {c} {t}."),
            ("How many things are there?", f"There are {NUMBERS[n]} things.", f"{capital(NUMBERS[n])}."),
            (f"Is the {t} {c}?", f"Yes, the {t} is {c}.", "Yes."),
            (f"Is the {t} {other}?", f"No, the {t} is {c}.", "No."),
        ])

    turns = []
    for i in range(r.choice([1, 2, 3])):
        question, answer, short = ask()
        turns.append(Turn(f"{text} {question}" if i == 0 else question, answer, short, key))
    return turns


def move(r):
    c, t, key = r.choice(COLOURS), r.choice(THINGS), None
    turns, place = [], None
    for i in range(r.choice([1, 2, 2, 3])):
        place = r.choice([p for p in PLACES if p != place and not p.startswith("behind")])
        key = ("move", c, t, place)
        name = f"the {c} {t}" if i == 0 else r.choice(["it", f"the {t}", f"the {c} {t}"])
        start = r.choice(["Put", "Please put", "Place"]) if i == 0 else r.choice(["Now put", "Put", "Then put"])
        text = f"I pick up the {c} {t} and put it {place}."
        turns.append(Turn(f"{start} {name} {place}.", text, "Done.", key))
        if r.random() < 0.6:
            question = r.choice([f"Where is the {t}?", f"Where is the {c} {t} now?", "Where is it?", "Where is it now?"])
            turns.append(Turn(question, f"The {c} {t} is {place}.", f"{capital(place)}.", key))
    return turns


def words(r):
    items = r.sample(WORDS, 3)
    text, key = ", ".join(items), ("words", tuple(items))
    forward, back = text + ".", ", ".join(reversed(items)) + "."
    ask, answer, short = r.choice([
        (f"Say {text}.", forward, forward), (f"Repeat after me: {text}.", forward, forward),
        (f"Say {text} backwards.", back, back), (f"Say {text} in reverse.", back, back),
        (f"Which word comes first: {text}?", f"The first word is {items[0]}.", f"{capital(items[0])}."),
        (f"Which word comes last: {text}?", f"The last word is {items[2]}.", f"{capital(items[2])}."),
    ])
    return [Turn(ask, answer, short, key)]


def hello(r):
    name = r.choice(NAMES)
    kind = r.random()
    if kind < 0.35:
        ask = r.choice(["Hello!", "Hello.", "Hi!", "Hi.", "Good morning!", "Good evening!", "Hey."])
        return [Turn(ask, "Hello! How can I help you?", "Hello!")]
    told = r.choice([f"My name is {name}.", f"I am {name}.", f"Hello, I am {name}.", f"Hi, my name is {name}."])
    turns = [Turn(told, f"Hello {name}! How can I help you?", f"Hello {name}!")]
    if r.random() < 0.4:
        turns += r.choice([sums, opposite, facts, words])(r)
    ask = r.choice(["What is my name?", "Who am I?", "Do you know my name?"])
    return turns + [Turn(ask, f"Your name is {name}.", f"{name}.")]


def myself(r):
    return [Turn(r.choice(asks), answer, short) for asks, answer, short in [r.choice([
        (["Who are you?", "What are you?", "Tell me about yourself."],
         "I am Pebble, a very small language model that runs on FlashRT.", "Pebble."),
        (["What is your name?", "How are you called?", "Do you have a name?"], "My name is Pebble.", "Pebble."),
        (["What can you do?", "What do you know?", "How can you help me?", "Help!"],
         "I can add small numbers, sort, count, remember where things are, and tell short stories.", "Small things."),
        (["How big are you?", "How large are you?", "How many parameters do you have?"],
         "I have fewer than one million parameters, which is very few.", "Tiny."),
        (["How are you?", "How are you today?"], "I am well, thank you.", "Well."),
        (["Thank you!", "Thanks.", "Thanks a lot!", "Thank you."], "You are welcome.", "Welcome."),
        (["Goodbye!", "Bye.", "Good night.", "See you!"], "Goodbye! It was nice to talk to you.", "Goodbye!"),
        (["What is FlashRT?", "Tell me about FlashRT."], "FlashRT is a runtime that answers one request as fast as it can.", "A runtime."),
    ])]]


UNKNOWN = ["What is the capital of {}?", "Who is the king of {}?", "How old is {}?", "Who wrote {}?", "What is the weather in {}?",
           "Who won the game in {}?", "How far is {}?", "What do you think of {}?", "Translate {} into French.", "When was {} built?"]
ODD = """France Rome China the_moon Peru Hamlet London Spain the_tower Japan Kenya the_old_bridge Berlin Texas Mars Cairo my_uncle""".split()


def unknown(r):
    ask = r.choice(UNKNOWN).format(r.choice(ODD).replace("_", " "))
    return [Turn(ask, "I am sorry, I do not know that.", "Sorry.", ("unknown", ask))]


# ---- stories ----

HEROES = """fox bear mouse owl rabbit hedgehog duck cat dog frog squirrel lamb pony goat""".split()
PETS = "Pip Momo Lily Tom Ruby Max Nora Otto Fay Gus Bella Finn Zoe Sam Wanda Rolf".split()
HOMES = ["in a forest", "by a river", "in a small house", "on a hill", "near the sea", "in an old barn", "under a big tree"]
WEATHER = ["The sun was warm", "It was raining", "The wind was cold", "Snow lay on the ground", "The sky was grey"]
FOODS = ["bread", "berries", "soup", "apples", "cheese", "honey", "nuts"]


def story_text(r, hero=None):
    hero, name = hero or r.choice(HEROES), r.choice(PETS)
    friend, other = r.choice([h for h in HEROES if h != hero]), r.choice([p for p in PETS if p != name])
    home, c, t, food = r.choice(HOMES), r.choice(COLOURS), r.choice(THINGS), r.choice(FOODS)
    kind = r.choice(["little", "small", "young", "clever", "shy", "brave"])
    lines = [r.choice([f"Once upon a time there was a {kind} {hero} named {name}.",
                       f"Once upon a time a {kind} {hero} named {name} lived {home}."])]
    if "lived" not in lines[0]:
        lines.append(f"{name} lived {home}.")
    lines.append(f"One day {name} went for a walk. {r.choice(WEATHER)}." if r.random() < 0.7 else f"{r.choice(WEATHER)} that day.")
    plot = r.choice(["lost", "found", "help", "share"])
    if plot == "lost":
        lines += [f"{name} had lost a {c} {t}.", f"\"Where is my {t}?\" said {name}.",
                  f"{name} looked {r.choice(PLACES)} and {r.choice(PLACES)}, but the {t} was not there.",
                  f"Then {other} the {friend} came by. \"I found a {c} {t},\" said {other}.",
                  f"It was the {t} of {name}. {name} was very happy."]
    elif plot == "found":
        lines += [f"On the way {name} found a {c} {t}.", f"\"Whose {t} is this?\" asked {name}.",
                  f"{other} the {friend} was sad, because the {c} {t} was gone.",
                  f"{name} gave the {t} back to {other}.", f"\"Thank you, {name},\" said {other}. They became good friends."]
    elif plot == "help":
        lines += [f"{name} heard a noise. It was {other} the {friend}.", f"\"Help! I cannot reach my {c} {t},\" said {other}.",
                  f"{name} was {r.choice(['not big, but very quick', 'afraid, but wanted to help', 'tired, but did not go away'])}.",
                  f"{name} climbed up and got the {t}.", f"\"You are a good {hero},\" said {other}."]
    else:
        lines += [f"{name} was hungry and had only some {food}.", f"{other} the {friend} had no {food} at all.",
                  f"\"You can have half of my {food},\" said {name}.", f"They sat down and ate the {food} together.",
                  f"Then {other} gave {name} a {c} {t}."]
    lines.append(r.choice([f"In the evening {name} went home and slept well.", f"From that day on {name} and {other} were friends.",
                           f"And {name} was never alone again.", f"That was a good day for {name}."]))
    return " ".join(lines), ("story", hero, name, plot, friend), f"{article(hero).lower()} {hero}"


def story(r):
    text, key, about = story_text(r)
    ask = r.choice(["Tell me a story about {}.", "Tell a story about {}.", "I want to hear a story about {}."]).format(about)
    return [Turn(ask, text, text, key)]


FAMILIES = {sums: 36, compare: 7, order: 9, count: 4, sequence: 7, opposite: 6, facts: 10, room: 13, move: 6, words: 9, hello: 4,
            myself: 4, unknown: 3, story: 1}   # sums are hard to learn, stories are long


# ---- documents ----

def is_new(turns):
    return any(t.key is not None and held_out(*t.key) for t in turns)


def conversation(r):
    """Turns of one document and its system message or None; never a held-out question."""
    turns = []
    for _ in range(r.choice([1, 1, 2, 3, 4])):
        while True:
            more = r.choices(list(FAMILIES), list(FAMILIES.values()))[0](r)
            if not is_new(more):
                break
        turns += more
    return turns, pick_system(r)


def pick_system(r):
    kind = r.random()
    return None if kind < 0.7 else r.choice(SHORT_SYSTEMS if kind < 0.85 else LONG_SYSTEMS)


def messages(turns, system):
    brief = system in SHORT_SYSTEMS
    out = [("system", system)] if system else []
    for t in turns:
        out += [("user", t.user), ("assistant", t.short if brief else t.answer)]
    return out


def chat_text(pairs):
    return BEGIN + "".join(f"{ROLES[role]}{text}{END}" for role, text in pairs)


def document(r):
    if r.random() < 0.05:
        stories = []
        while len(stories) < 1 or r.random() < 0.3:
            text, key, _ = story_text(r)
            if not held_out(*key):
                stories.append(text)
        return BEGIN + "\n\n".join(stories) + END
    return chat_text(messages(*conversation(r)))


def write_held_out(directory: Path):
    """Ten questions of every family, and 120 documents, none of which can occur in training."""
    r, lines, text = random.Random(2), [], []
    for family in FAMILIES:
        if family in (hello, myself, story):
            continue
        seen = set()
        while len(seen) < 10:
            turns = family(r)[:1]
            if is_new(turns) and turns[0].user not in seen:
                seen.add(turns[0].user)
                lines.append({"family": family.__name__, "user": turns[0].user, "answer": turns[0].answer, "short": turns[0].short})
    while len(text) < 120:
        if r.random() < 0.2:
            story_, key, _ = story_text(r)
            if held_out(*key):
                text.append(BEGIN + story_ + END)
            continue
        turns = r.choices(list(FAMILIES), list(FAMILIES.values()))[0](r)
        if is_new(turns):
            text.append(chat_text(messages(turns, pick_system(r))))
    (directory / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (directory / "text.txt").write_text("".join(text).removeprefix(BEGIN))   # tokenizers put one in front
    print(f"{len(lines)} questions, {len(text)} documents of {len(''.join(text))} characters")


if __name__ == "__main__":
    if sys.argv[1] == "held-out":
        write_held_out(Path(sys.argv[2]))
    else:
        generator = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
        for _ in range(int(sys.argv[1])):
            print(document(generator))
