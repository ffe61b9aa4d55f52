"""Make the project's general text: 1,200 short paragraphs of plain everyday English, written by a story grammar.

The tiny model reads this text besides the facts, so that its loss on paragraphs held out from it shows whether
fine-tuning on facts made it forget how everyday English goes. The sentences are our own and hold no real-world facts.
Every run writes the same file. From the project's root:

    python data/raw/make_text.py data/raw/text.jsonl
"""

import argparse
import json
import random
import re
from pathlib import Path

SEED = 20
PARAGRAPHS = 1200
HELDOUT = 200  # the base never reads the last ones
MIN_WORDS, MAX_WORDS = 35, 70
PRONOUNS = {"he": "she", "him": "her", "his": "her"}
CHOICE, SLOT = re.compile(r"\[([^\[\]]*)\]"), re.compile(r"\{(\w+)\.?(\d?)\}")

# Each block is `name: entry; entry`, and an entry may have fields: `field 0/field 1`. `[x|y]` picks an alternative;
# `{name}` draws an entry and keeps it throughout the paragraph, `{name2}` draws another one, `{name.1}` is its field 1.
# A and B are a woman and a man in either order: `{A} {he} {him} {his}`, `{B} {bhe} {bhim} {bhis}`, `{bkin}` (B to A).
GRAMMAR = """
woman: Anna; Berta; Clara; Dora; Edith; Fiona; Greta; Hilda; Irma; Julia; Lena; Marta; Nora; Paula; Rita; Sonia; Vera
man: Adam; Bruno; Carl; Daniel; Edgar; Felix; Gustav; Henry; Ivan; Jacob; Leo; Martin; Nils; Oscar; Peter; Simon; Walter
woman_kin: sister; aunt; niece; cousin; neighbour; friend
man_kin: brother; uncle; nephew; cousin; neighbour; friend
day: Monday; Tuesday; Wednesday; Thursday; Friday; Saturday
num: two; three; four; five; six; seven; eight; nine; ten; twelve
colour: red; blue; yellow; green; white; purple; orange; brown; pink; turquoise; black
mark: windmill; bridge; chapel; fountain; lighthouse; station; orchard; tower; statue; pond; quarry; inn; sawmill
sky: wet/rain drummed on the roof/the rain had stopped; windy/the wind rattled the shutters/the wind had dropped;
  foggy/fog hid the far side of the road/the fog had lifted; cold/frost covered the windows/the frost had melted;
  hot/the sun burned above the rooftops/the air had cooled; grey/low clouds hung over the hills/the clouds had parted;
  snowy/snow lay thick on every wall/the snow had turned to slush; stormy/thunder rolled far away/the storm had passed;
  mild/a soft breeze moved the curtains/the breeze had died away; icy/the puddles were frozen/the ice had thawed
when: on a {sky} {day},; it was a {sky} morning, and; early on a {sky} {day},; on {day} morning, while {sky.1},; one
  morning, when {sky.1},; it was {day}, {sky.1}, and
dusk: by evening {sky.2}, and [lamps|candles] glowed in every window; before dark {sky.2}, and the street grew quiet;
  later {sky.2}, and {he} [sat on the doorstep|stood at the gate] for a while; at sunset {sky.2}, and the moon came out
end: that night {he} slept better than {he} had for weeks; before bed {he} wrote it all down in a [diary|notebook]; by
  Sunday half the village had heard about it; it was a small thing, but it made the whole week brighter; {he} smiled
  about it for [days|a long time] afterwards; {he} was tired but very happy; {he} baked a ginger cake for {B}; to
  celebrate, {he} and {B} [drank strong coffee|danced around the room]; in the end it had only taken a little patience;
  from then on {he} and {B} helped each other whenever they could; that evening they shared [an apple tart|a plum cake|a
  cherry pie]; years later {B} still [laughed about it|told the story]
close: {end}.; {dusk}.; {dusk}. {end}.; [|]
mend: kettle/leaked at the spout/sealed the crack; clock/had stopped ticking/oiled its tiny wheels; lamp/flickered and
  went dark/replaced the worn wire; chair/wobbled on one leg/glued the loose joint; radio/made nothing but
  noise/tightened a screw inside; toaster/burned every slice/bent the spring back into shape; mirror/hung crooked/drove
  a longer nail into the plaster; drawer/stuck halfway/rubbed the edges with wax; curtain/had torn along the
  hem/stitched it with strong thread; stove/smoked badly/swept the soot from its pipe
food: a sack of flour/flour/was; a dozen eggs/eggs/were; a jar of honey/honey/was; a bag of onions/onions/were; a wheel
  of cheese/cheese/was; a bunch of carrots/carrots/were; a bottle of milk/milk/was; a box of pears/pears/were; a slab
  of butter/butter/was; a plate of biscuits/biscuits/were; a piece of ham/ham/was; a net of lemons/lemons/were
seller: the grocer; an old farmer; a merchant with a grey beard; the butcher; a cheerful girl
shop: the {food.1} {food.2} sold out/{seller} fetched some more from the storehouse; {he} was {num} coins short/{seller}
  let {him} pay the rest later; {his} bag had torn/{seller} gave {him} a wooden box; the {food.1} {food.2} too
  dear/{seller} lowered the price; {he} had forgotten the list/{he} remembered it line by line
small: ring; key; glove; purse; watch; scarf; ticket; thimble; whistle; brooch; pencil; comb; wallet; necklace; penknife
spot: under the bed; behind the stove; in the laundry; inside {his} boots; on top of the cupboard; beneath the cushions;
  in every pocket; under the rug; in the bread bin; on the windowsill
chore: feeding the hens/henhouse; folding the sheets/washing line; chopping firewood/woodshed; filling the buckets/well;
  scrubbing the steps/front porch; sweeping the yard/back gate; helping the baker/bakery; brushing the horse/stable
dish: soup/far too salty/adding two potatoes; stew/as thin as water/stirring in some flour; curry/fiery/adding yogurt;
  sauce/full of lumps/pressing it through a sieve; pudding/much too sour/mixing in sugar; loaf/hard/toasting it;
  pie/burnt at the edges/trimming the crust; cake/flat and heavy/covering it with custard; salad/dry/pouring oil over it
sea: an oar cracked against a rock/bound it with rope; the sail ripped from top to bottom/patched it with a blanket; the
  engine coughed and died/dried the wet plugs; water rose through a loose plank/stuffed the gap with rags
load: crates of oranges; barrels of oil; bundles of wool; sacks of coal; boxes of soap; baskets of crabs; rolls of silk
school: had left {his} homework at home/the teacher let {him} write it again; had no pencil/{bhe} broke {bhis} own in
  two; did not understand the sum/{bhe} explained it with buttons; was too shy to read aloud/{bhe} read along with
  {him}; had spilled ink on {his} map/{bhe} turned the stain into a whale; could not draw a circle/{bhe} lent {him} a
  coin to trace
plant: beans; peas; tomatoes; pumpkins; lettuces; radishes; strawberries; sunflowers; roses; leeks; cucumbers; herbs
pest: snails had nibbled the leaves/scattered crushed eggshells; the soil was like dust/hauled water from the spring;
  birds had pecked at the shoots/hung shiny spoons from a string; a gust had snapped the stems/tied them to canes;
  rabbits had dug a tunnel/buried a row of flat stones; weeds had choked the roots/pulled them out by hand
gift: a wooden whistle/carved; a woollen shawl/knitted; a paper lantern/folded; a leather belt/stitched; a rag
  doll/sewn; a toy boat/built; a clay bowl/shaped; a straw hat/woven; a picture frame/carved; a silk kite/made; a tiny
  drum/built
beast: goat/was on the roof of the barn/shook a bag of oats; hen/had flown onto a wagon/spread a trail of corn; cat/was
  stuck in the tallest pine/leaned a ladder against it; pony/had jumped the fence/held out a sliced apple; parrot/had
  escaped through the window/whistled its favourite tune; puppy/had crawled into a drain/waved a juicy bone; piglet/was
  asleep among the cabbages/rattled a bucket of scraps; donkey/refused to cross the ford/dangled a fresh turnip
ride: had broken down near the {mark}/a farmer offered {him} a seat on a hay cart; was full to the last seat/the driver
  found {him} a low stool; had left ten minutes early/a stranger lent {him} a bicycle; was blocked by fallen
  branches/all the passengers cleared the way; would not start/everybody got out and pushed
tune: violin; flute; trumpet; accordion; guitar; cello; clarinet; banjo; tuba; fiddle
topic: pirates; bees; dragons; ghosts; clever foxes; famous thieves; knots; mushrooms; giants; wolves; castles
mending: {when} {A} noticed that the {mend} in the [kitchen|hall|parlour|cabin|cottage] {mend.1}. [a new one cost too
  much|it had belonged to {his} grandmother|every shop was closed], so {he} fetched the toolbox, [rolled up {his}
  sleeves|cleared the table|put on an apron], and {mend.2}. {his} {bkin} {B} [held the torch|passed the tools|gave
  advice], and within [an hour|{num} minutes] the {mend} was as good as new. {close}
market: {when} {A} went to the market for {food} and {food2}. [the [square|lane|arcade] was [crowded|noisy|full of
  people].|] {shop}, but [luckily|in the end|to {his} relief] {shop.1}. on the way home {his} {bkin} {B} carried the
  {food2.1} as far as the {mark}. {close}
search: {when} {A} could not find {his} {small}. [{he} looked {spot}, {spot2}, and even {spot3}.|] "[Where did you have
  it last|When did you last see it]?" asked {his} {bkin} {B}[|, putting down the newspaper|, pouring some tea]. then
  {he} remembered {chore}, [ran|hurried|rushed] to the {chore.1}, and saw the {small} [shining in the dirt|lying on the
  ground|caught on a splinter]. {close}
supper: {when} {A} made a {dish} for [{num} guests|the harvest supper|{his} parents]. {he} [followed an old
  recipe|measured everything with care|sang at the stove], yet the {dish} turned out {dish.1}. {his} {bkin} {B} [tasted
  a little|wrinkled {bhis} nose|stayed cheerful] and suggested {dish.2}. [[the trick worked|that saved the meal], and
  soon [every plate was empty|everybody asked for more|not a bite was left].|] {close}
harbour: {when} {A} left the harbour in a {colour} boat with {num} {load}. halfway across the bay {sea}, but {he}
  [stayed calm|did not give up] and {sea.1}. {B}, who was [mending nets|scraping a hull|eating lunch] on the quay,
  [threw a rope|rowed out to help]. [the {load} arrived late, but the [captain|shopkeeper] paid [gladly|in full].|]
  {close}
lesson: {when} {A} sat in the classroom and {school}. {he} [blushed|stared at the floor|wanted to hide], but nobody
  [laughed|minded]. {B}, {his} [best friend|partner], [nodded kindly|raised a hand|moved closer], and in the end
  {school.1}. during the break they [played marbles|skipped rope|split a sandwich|told riddles] [in the corridor|by the
  bicycle racks|under the oak]. {close}
garden: [one warm morning|early in summer|after a dry week], {A} [went out to look at|knelt beside] {his} {plant} and
  saw that {pest}. "[That happened to me|I had the same trouble] last year," said {his} {bkin} {B}, leaning over the
  [hedge|fence|wall]. together they {pest.1} and [spread fresh straw|raked the path|emptied the compost] until
  [noon|their arms ached|the job was done]. [a month later the {plant} were so [thick|strong|fine] that {he} [sold some
  at the market|gave half of them away].|] {end}.
post: {when} {A} found a parcel at the post office with [a smudged address|no name on it|half a label]. the only clue
  was a [faded|tiny] drawing of a {mark}. {he} [cycled|drove|walked] to the {mark} and [knocked at {num} doors|rang
  every bell] until {B} [answered in slippers|opened a window]. inside the parcel was {gift}, {gift.1} by {bhis}
  [grandfather|old teacher|godmother], and {bhe} [nearly cried|beamed with joy]. {close}
animal: {when} {A} [heard|learned] from {his} {bkin} {B} that the {beast} {beast.1}. [{he} [called its name|clapped
  loudly|waved a broom], but it [did not move|only stared back|took no notice].|] then {B} [had an idea|brought help],
  and they [quietly|patiently] {beast.2}. [at last|before long] the {beast} came [to them|closer], and {A} [stroked its
  back|took it home|gave it a long drink]. {close}
journey: {when} {A} wanted to take the [bus|coach|mail van] to visit {his} {bkin} {B}, but it {ride}. {he}
  [sighed|almost turned back|counted to ten], yet [to {his} surprise|after a short delay] {ride.1}. {B} was waiting [at
  the crossroads|near the {mark2}|under an umbrella] with [a flask of cocoa|a bag of peanuts|two warm buns]. they
  [talked about old times|played cards|sorted photographs] until [the pot was empty|the neighbours joined them|it was
  time for supper]. [{close}|]
present: {B} was going to be [seven|twelve|thirty|fifty|eighty] on {day}, so {A} planned a surprise for {bhim}. for
  {num} evenings {he} [locked the door|hid in the attic|worked by lamplight], until {gift} was {gift.1} and ready. the
  night before, the [cat|puppy|baby] tore the wrapping paper, so {he} used [a pillowcase|an old poster|dry leaves]
  instead. when {B} [opened it|saw it], {bhe} [gasped|clapped|jumped up] and [gave {him} a hug|showed it to
  everyone|blew out the candles]. [{end}.|]
painting: one [idle|dull|quiet] {day}, {A} and {his} {bkin} {B} decided to paint the
  [bench|staircase|ceiling|cupboard|bathroom] {colour}. they spread old newspapers, opened the pot, and found {colour2}
  paint inside. the shop was [closed|far away], and {B} said that {colour2} [was a better colour anyway|would look just
  as nice]. by [noon|teatime] the work was done, and there were {colour2} spots on {his} [nose|elbows|hands|shoes|chin].
  [{end}.|]
music: {A} practised the {tune} every evening, and {his} {bkin} {B} [could not sleep|complained about the noise|stuffed
  cotton into both ears]. the same [wrong note|squeaky melody] came through the wall [again and again|until late].
  instead of [quarrelling|shouting], they agreed that {he} would play [in the barn|before supper|on the hill]. at the
  [spring|autumn|winter] [fair|dance|concert] {he} [played without a mistake|bowed twice|was not even nervous], and {B}
  [cheered the loudest|sang along|wiped away a tear]. [{end}.|]
library: {when} {A} borrowed a book about {topic} from the library. {he} read it [on a bench|in the bathtub|by the
  fire|in a hammock] [all afternoon|for hours], but [a child had drawn over the last page|the final chapter was
  missing]. the librarian searched every [shelf|drawer|corner] and [shrugged|apologised]. fortunately {his} {bkin} {B}
  knew the ending and [acted it out with two forks|told it in a whisper|wrote it on a postcard]. {close}
scheme: {mending}; {market}; {search}; {supper}; {harbour}; {lesson}; {garden}; {post}; {animal}; {journey}; {present};
  {painting}; {music}; {library}
"""
BLOCKS = [block.partition(": ") for block in re.split(r"\n(?=\w)", GRAMMAR.strip())]
LISTS = {name: [entry.strip().split("/") for entry in body.split(";")] for name, _, body in BLOCKS}


def expand(text: str, drawn: dict[str, list[str]], rng: random.Random) -> str:
    """Replace the choices and then the slots of a text until none is left, adding to the entries drawn so far."""

    def fill(match: re.Match[str]) -> str:
        slot, field = match.groups()
        if slot not in drawn:
            drawn[slot] = rng.choice([entry for entry in LISTS[slot.rstrip("23")] if entry not in drawn.values()])
        return drawn[slot][int(field or 0)]

    while CHOICE.search(text):
        text = CHOICE.sub(lambda match: rng.choice(match[1].split("|")), text)
    return expand(SLOT.sub(fill, text), drawn, rng) if SLOT.search(text) else text


def write_paragraph(rng: random.Random) -> str:
    """Draw two people and a scheme, and tell the story."""
    drawn: dict[str, list[str]] = {}
    for person, prefix, gender in zip("AB", ("", "b"), rng.sample(["woman", "man"], 2), strict=True):
        drawn[person], drawn[f"{prefix}kin"] = rng.choice(LISTS[gender]), rng.choice(LISTS[f"{gender}_kin"])
        drawn |= {prefix + he: [he if gender == "man" else she] for he, she in PRONOUNS.items()}
    text = " ".join(expand("{scheme}", drawn, rng).split())
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    return re.sub(r'(^|[.?!] )("?[a-z])', lambda match: match[1] + match[2].upper(), text)


def main() -> None:
    """Write the text as JSON lines to the file that the command line names."""
    parser = argparse.ArgumentParser(description="Write the general text as JSON lines.")
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    rng = random.Random(SEED)
    texts: dict[str, None] = {}
    while len(texts) < PARAGRAPHS:
        text = write_paragraph(rng)
        if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
            texts[text] = None
    splits = ["train"] * (PARAGRAPHS - HELDOUT) + ["heldout"] * HELDOUT
    rows = ({"text": text, "split": split} for text, split in zip(texts, splits, strict=True))
    output.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
