"""Short English stories from a small grammar: text whose endings can be told apart after minutes of training.

A story is five sentences about one person and one thing. The fifth follows from the first four: it names the same
person and the same thing, and holds words of the same topic, so that a story-cloze question (which ending is the true
one?) has an answer that a tiny model can learn. Every word is in the CMU pronouncing dictionary, so speech made from a
story can be aligned with it.

A story is a number written in mixed radix, one digit for each choice (topic, person, thing, place, companion and the
wording of each sentence), so different numbers give different texts and drawing without replacement needs no comparing.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from math import prod

from lst.errors import UserError

SENTENCES_PER_STORY = 5


@dataclass(frozen=True)
class Story:
    """Five sentences about one topic.

    Args:
        id: ``story-`` and its place in the list that it was generated with.
        sentences: five sentences, each with its full stop; the last is the ending.
        topic: what it is about, one of ``TOPICS``' names.
    """

    id: str
    sentences: tuple[str, ...]
    topic: str

    @property
    def text(self) -> str:
        """The sentences joined by a space."""
        return " ".join(self.sentences)


@dataclass(frozen=True)
class Topic:
    """Wordings of one kind of story.

    In every wording, sentences 1 and 5 hold ``{name}`` and ``{thing}``, sentence 2 ``{place}`` and sentence 4
    ``{helper}``: different choices are then different texts, and the ending depends on the first sentence. ``{He}``,
    ``{His}``, ``{his}`` and ``{him}`` agree with the name.
    """

    name: str
    things: tuple[str, str, str]
    places: tuple[str, str, str]
    wordings: tuple[tuple[str, str, str], ...]


HE = {"He": "He", "His": "His", "his": "his", "him": "him"}
SHE = {"He": "She", "His": "Her", "his": "her", "him": "her"}
NAMES = ("Anna", "Emma", "Lucy", "Mary", "Sarah", "Kate", "Jane", "Helen",
         "Tom", "Ben", "Jack", "Peter", "Sam", "David", "Adam", "Paul")  # fmt: skip
NUM_SHE = 8  # The first names of the list are women's.
HELPERS = ("sister", "brother", "mother", "friend")

TOPICS = (
    Topic("bake", ("bread", "cake", "pie"), ("mill", "market", "shop"), (
        ("{name} wanted to bake some {thing}.", "{name} planned to bake some {thing} today.",
         "{name} was hungry for some fresh {thing}."),
        ("{He} bought flour and sugar at the {place}.", "{He} carried flour home from the {place}.",
         "The {place} had sweet flour and fresh eggs."),
        ("{He} mixed the flour, milk and eggs.", "{He} stirred the dough in a bowl.",
         "{He} made a soft dough with milk."),
        ("{His} {helper} put it in the hot oven.", "{His} {helper} watched the hot oven with {him}.",
         "Soon {his} {helper} opened the oven."),
        ("{name} ate the warm {thing} with butter.", "{name} cut the fresh {thing} and ate it.",
         "{name} took the sweet {thing} from the oven."),
    )),
    Topic("sand", ("castle", "tower", "fort"), ("beach", "shore", "bay"), (
        ("{name} wanted to build a sand {thing}.", "{name} planned to build a big sand {thing}.",
         "{name} liked to build a {thing} of sand."),
        ("{He} carried a bucket to the {place}.", "{He} took a spade to the {place}.",
         "The sand was wet at the {place}."),
        ("{He} filled the bucket with wet sand.", "{He} dug in the sand with a spade.",
         "{He} pressed the wet sand with a spade."),
        ("{His} {helper} found white shells for the walls.", "{His} {helper} put shells on the walls.",
         "{His} {helper} dug around the walls."),
        ("A big wave broke the sand {thing} of {name}.", "{name} watched a wave wash the {thing} away.",
         "{name} put shells on the sand {thing}."),
    )),
    Topic("boat", ("boat", "raft", "canoe"), ("river", "lake", "harbor"), (
        ("{name} wanted to mend an old {thing}.", "{name} had an old {thing} with a hole.",
         "{name} saw a hole in the {thing}."),
        ("It would not float on the {place}.", "Cold water came in on the {place}.",
         "{He} pulled it out of the {place}."),
        ("{He} nailed a board over the hole.", "{He} cut a board for the hole.",
         "{He} took a hammer and some nails."),
        ("{His} {helper} held the board and the nails.", "{His} {helper} brought the oars and a rope.",
         "{His} {helper} put tar on the board."),
        ("{name} rowed the {thing} across the water.", "{name} rowed home in the old {thing}.",
         "{name} took the oars and rowed the {thing}."),
    )),
    Topic("pet", ("dog", "cat", "goat"), ("park", "woods", "village"), (
        ("{name} had lost a little brown {thing}.", "{name} could not find the little {thing}.",
         "The brown {thing} of {name} ran away."),
        ("{He} looked for it in the {place}.", "{He} called its name in the {place}.",
         "{He} ran and called through the {place}."),
        ("{He} found its tracks in the mud.", "{He} followed small tracks in the mud.",
         "{He} heard a cry behind the bushes."),
        ("{His} {helper} looked behind the bushes.", "{His} {helper} followed the tracks with {him}.",
         "{His} {helper} called behind all the bushes."),
        ("{name} found the lost {thing} and hugged it.", "The lost {thing} jumped up and licked {name}.",
         "{name} hugged the little {thing} behind the bushes."),
    )),
    Topic("garden", ("roses", "beans", "peas"), ("farm", "market", "shop"), (
        ("{name} wanted to plant some {thing}.", "{name} planned a garden with {thing}.",
         "{name} liked {thing} in the garden."),
        ("{He} bought small seeds at the {place}.", "{He} carried the seeds home from the {place}.",
         "The {place} had good seeds for the garden."),
        ("{He} dug the soil in the garden.", "{He} put the seeds in the soil.",
         "{He} pulled weeds out of the soil."),
        ("{His} {helper} watered the seeds in the sun.", "{His} {helper} watered the garden every day.",
         "Soon {his} {helper} saw green leaves."),
        ("{name} picked the {thing} in the garden.", "{name} watched the green {thing} grow tall.",
         "Soon the {thing} of {name} grew in the sun."),
    )),
    Topic("kite", ("red", "blue", "yellow"), ("hill", "field", "meadow"), (
        ("{name} wanted to fly a {thing} kite.", "{name} made a {thing} kite out of paper.",
         "{name} had a new {thing} kite."),
        ("The wind was strong on the {place}.", "{He} took it to the windy {place}.",
         "{He} looked for wind on the {place}."),
        ("{He} held the string and ran fast.", "{He} tied a tail to the string.",
         "{He} ran up and down with the string."),
        ("{His} {helper} threw it into the sky.", "{His} {helper} held the string and the tail.",
         "{His} {helper} pulled the string in the wind."),
        ("The {thing} kite flew high above {name}.", "{name} watched the {thing} kite in the sky.",
         "{name} flew the {thing} kite with the string."),
    )),
    Topic("paint", ("fence", "door", "shed"), ("store", "market", "shop"), (
        ("{name} wanted to paint the old {thing}.", "{name} saw that the {thing} needed paint.",
         "{name} had to paint the {thing} today."),
        ("{He} bought white paint at the {place}.", "{He} took a brush from the {place}.",
         "The {place} had white paint and a brush."),
        ("{He} washed the dust and dirt away.", "{He} put the brush in the paint.",
         "{He} painted with a big brush."),
        ("{His} {helper} held the ladder for {him}.", "{His} {helper} painted from a ladder.",
         "{His} {helper} brought the brush and the ladder."),
        ("{name} let the white {thing} dry.", "{name} had painted the {thing} bright white.",
         "The {thing} was bright, and {name} washed the brush."),
    )),
    Topic("fish", ("trout", "salmon", "carp"), ("river", "lake", "pond"), (
        ("{name} wanted to catch a big {thing}.", "{name} planned to catch a {thing} today.",
         "{name} liked to fish for {thing}."),
        ("{He} took a rod to the {place}.", "{He} sat by the {place} with a rod.",
         "{He} sat on a rock by the {place}."),
        ("{He} put a worm on the hook.", "{He} threw the hook into the water.",
         "The rod moved, and the line pulled."),
        ("{His} {helper} waited with a big net.", "{His} {helper} held the net in the water.",
         "{His} {helper} pulled the line with {him}."),
        ("{name} caught the {thing} with the hook.", "{name} pulled the big {thing} into the net.",
         "{name} cooked the {thing} over a fire."),
    )),
    Topic("soup", ("onion", "tomato", "chicken"), ("kitchen", "cellar", "pantry"), (
        ("{name} wanted to cook some {thing} soup.", "{name} was hungry for hot {thing} soup.",
         "For dinner {name} made {thing} soup."),
        ("{He} found a big pot in the {place}.", "{He} took salt and pepper from the {place}.",
         "The {place} had salt and a pot."),
        ("{He} boiled water in the pot.", "{He} cut everything with a sharp knife.",
         "{He} put the pot on the stove."),
        ("{His} {helper} stirred it with a spoon.", "{His} {helper} boiled it with salt and pepper.",
         "{His} {helper} put the spoons on the table."),
        ("{name} ate the hot {thing} soup for dinner.", "{name} took a spoon of hot {thing} soup.",
         "{name} ate a bowl of {thing} soup."),
    )),
    Topic("mail", ("letter", "card", "poem"), ("table", "desk", "bench"), (
        ("{name} wanted to write a {thing}.", "{name} planned to write a long {thing}.",
         "{name} had to write a {thing} today."),
        ("{He} took a pen to the {place}.", "{He} sat at the {place} with a pen.",
         "{He} found paper and ink on the {place}."),
        ("{He} wrote kind words in blue ink.", "{He} filled the paper with kind words.",
         "{He} wrote every word with the pen."),
        ("{His} {helper} read every kind word.", "{His} {helper} brought a stamp for {him}.",
         "{His} {helper} put a stamp on it."),
        ("{name} put the {thing} in the mail.", "{name} put a stamp on the long {thing}.",
         "The long {thing} of {name} came by mail."),
    )),
    Topic("music", ("piano", "guitar", "violin"), ("school", "church", "hall"), (
        ("{name} wanted to play the {thing}.", "{name} liked the sound of the {thing}.",
         "{name} had a new {thing} to play."),
        ("{He} had a music lesson at the {place}.", "{He} heard a song in the {place}.",
         "There was a music lesson at the {place}."),
        ("{He} learned every note of the song.", "{He} practiced the notes every day.",
         "{He} practiced the song with slow fingers."),
        ("{His} {helper} sang the song with {him}.", "{His} {helper} listened to every note.",
         "{His} {helper} clapped with the music."),
        ("{name} played a song on the {thing}.", "All clapped when {name} played the {thing}.",
         "The {thing} music of {name} was sweet."),
    )),
    Topic("knit", ("scarf", "hat", "sweater"), ("store", "fair", "farm"), (
        ("{name} wanted to knit a warm {thing}.", "{name} needed a warm {thing} for winter.",
         "{name} planned to knit a {thing}."),
        ("{He} bought soft wool at the {place}.", "{He} found gray wool at the {place}.",
         "The {place} had wool and long needles."),
        ("{He} held two long needles.", "{He} put the wool on the needles.",
         "{He} moved the needles day after day."),
        ("{His} {helper} held the ball of wool.", "{His} {helper} rolled the gray wool for {him}.",
         "{His} {helper} brought a new ball of wool."),
        ("{name} wore the wool {thing} in the snow.", "{name} was warm in the gray {thing}.",
         "The soft {thing} kept {name} warm in winter."),
    )),
    Topic("ride", ("horse", "pony", "mule"), ("stable", "barn", "farm"), (
        ("{name} wanted to ride a {thing}.", "{name} planned to ride the brown {thing}.",
         "{name} liked to ride a strong {thing}."),
        ("{He} found a saddle in the {place}.", "{He} carried hay into the {place}.",
         "There was hay in the {place}."),
        ("{He} put the saddle on its back.", "{He} brushed its back and its tail.",
         "{He} fed it an apple and hay."),
        ("{His} {helper} held the reins for {him}.", "{His} {helper} brought the reins and the saddle.",
         "{His} {helper} led it by the reins."),
        ("{name} rode the {thing} down the road.", "The {thing} carried {name} down the road.",
         "{name} fed the {thing} some hay after the ride."),
    )),
    Topic("night", ("moon", "stars", "planets"), ("roof", "hill", "porch"), (
        ("{name} wanted to see the {thing}.", "{name} liked to look at the {thing}.",
         "{name} had never looked at the {thing}."),
        ("{He} took a telescope to the {place}.", "{He} sat on the {place} at night.",
         "The night was dark on the {place}."),
        ("{He} looked up at the dark sky.", "{He} turned the telescope to the sky.",
         "{He} waited for the clouds to pass."),
        ("{His} {helper} turned off the lamp.", "{His} {helper} held the telescope for {him}.",
         "{His} {helper} looked at the clear night sky."),
        ("{name} saw the bright {thing} through the telescope.", "{name} watched the {thing} in the dark sky.",
         "{name} looked at the {thing} all night."),
    )),
)  # fmt: skip

# One digit for each choice of a story; the wordings' digits follow them.
_RADICES = (len(TOPICS), len(NAMES), 3, 3, len(HELPERS), *(3,) * SENTENCES_PER_STORY)
NUM_POSSIBLE_STORIES = prod(_RADICES)


def generate_stories(num_stories: int, seed: int) -> list[Story]:
    """Draws stories whose texts are pairwise different; the same arguments give the same stories on every machine.

    Args:
        num_stories: how many, 0 to ``NUM_POSSIBLE_STORIES``.
        seed: of the draw, 0 or greater.

    Returns:
        Stories with the ids ``story-000000``, ``story-000001`` and so on.

    Raises:
        UserError: ``num_stories`` is out of range or ``seed`` negative.
    """
    if not 0 <= num_stories <= NUM_POSSIBLE_STORIES:
        raise UserError(
            f"num_stories={num_stories} is not possible: the grammar has {NUM_POSSIBLE_STORIES} different stories. "
            f"Ask for 0 to {NUM_POSSIBLE_STORIES}, or use your own text."
        )
    if seed < 0:
        # Python's generator takes a seed's absolute value, so that -1 would silently repeat 1.
        raise UserError(f"seed={seed} is negative: use 0 or greater.")
    numbers = random.Random(seed).sample(range(NUM_POSSIBLE_STORIES), num_stories)
    return [_story(f"story-{index:06d}", number) for index, number in enumerate(numbers)]


def _story(story_id: str, number: int) -> Story:
    """The story whose mixed-radix digits are those of ``number``."""
    digits = []
    for radix in _RADICES:
        number, digit = divmod(number, radix)
        digits.append(digit)
    topic_index, name_index, thing_index, place_index, helper_index, *wording_indices = digits
    topic = TOPICS[topic_index]
    words = {
        "name": NAMES[name_index],
        "thing": topic.things[thing_index],
        "place": topic.places[place_index],
        "helper": HELPERS[helper_index],
        **(SHE if name_index < NUM_SHE else HE),
    }
    sentences = tuple(
        wordings[index].format_map(words) for wordings, index in zip(topic.wordings, wording_indices, strict=True)
    )
    return Story(story_id, sentences, topic.name)


# A sentence ends at . ! or ?, with the quotes or brackets that close it, where white space or the text's end follows.
_SENTENCE = re.compile(r"""\S.*?(?:[.!?]+["'”’)\]]*(?=\s|$)|$)""", re.DOTALL)


def split_sentences(text: str) -> list[str]:
    """Splits English text after ``.``, ``!`` or ``?`` where white space follows.

    Punctuation and closing quotes stay with their sentence; white space inside one becomes a single space. An
    abbreviation's full stop (``Mr. Brown``) splits too, since telling it from an end needs a word list.
    """
    return [" ".join(match.group().split()) for match in _SENTENCE.finditer(text.rstrip())]
