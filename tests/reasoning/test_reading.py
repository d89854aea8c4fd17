"""The judge that reads: tables of responses with the number that a reader takes, and texts of any kind."""

import importlib
import json
import math
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import geolib.reasoning
from geolib.reasoning import Question, Reading, Verdict, frozen_judge, judge
from geolib.reasoning.judge import judge as first_judge

# By what is tested: response, the number that a reader takes (None: none), a number that no reader takes.
TABLE = {
    "a colon and a line": [
        ("So the answer is:\n\n7 crates (the ones by the door)\n19 crates (the ones upstairs)", 7, 19),
        ("The answer is:\n36 pages (the first chapter)\n12 pages (the second one)", 36, 12),
        ("Hence, the answer is :\n\n$14 for the hat\n$30 for the coat", 14, 30),
        ("The answer would be:\n\n9 km (to school)\n4 km (to the pool)", 9, 4),
        ("**The answer is:**\n\n21 stamps (Ben's)\n33 stamps (Lea's)", 21, 33),
        ("Therefore, the answer to your question is:\n\n60 cows (in the barn)\n80 cows in all", 60, 80),
        ("Answer:\n\n17 candles\n\nThe other box had 40.", 17, 40),
    ],
    "a colon and a list": [
        ("The final answer is:\n\n- 64 tickets\n\nOn Sunday he sold 32.", 64, 32),
        ("The final answer is:\n\n* 15 roses\n\nThere were 45 tulips.", 15, 45),
        ("The answer is:\n- **27** shells\n- She found them with 3 friends.", 27, 3),
        ("Final answer:\n\n• 8 hours\n\nOn Monday she worked 6.", 8, 6),
        ("The answer is:\n1. 90 marbles\n\nHe lost 10 later.", 90, 10),
        ("## Final answer\n\nThe answer is:\n\n> 72 beads\n\nIn June she had 36.", 72, 36),
    ],
    "refusal": [
        ("I cannot answer this, since it does not name the 15 colours.", None, 15),
        ("I can't say; the text does not list the 40 guests.", None, 40),
        ("It is not stated how many of the 60 eggs are brown.", None, 60),
        ("It is not mentioned how many of the 18 boys came.", None, 18),
        ("It isn't specified which of the 7 trains was late.", None, 7),
        ("We are not told how many of the 200 seats were taken.", None, 200),
        ("The problem does not say how many of the 35 pens are blue.", None, 35),
        ("The text doesn't provide the price of the 8 tickets.", None, 8),
        ("There is not enough information: only the 24 children are named.", None, 24),
        ("Unfortunately, it is impossible to tell how long the 9 songs are.", None, 9),
        ("I'm unable to determine that from the 30 pages.", None, 30),
        ("I'm sorry, but I do not know how many of the 14 cats are black.", None, 14),
        ("The answer cannot be determined from the 16 numbers.", None, 16),
        ("The answer is unknown, because only 5 of the days are described.", None, 5),
        ("We would need more information about the 11 boxes.", None, 11),
        ("No information is given about the 50 red balls.", None, 50),
    ],
    "refusal after a number": [
        ("There are 48 marbles. The number of green ones is unknown.", None, 48),
        ("She has 20 hens. How many eggs they lay is not given.", None, 20),
        ("He bought 6 shirts. The price is not specified.", None, 6),
        ("The shelf holds 90 books. It is unclear how many are new.", None, 90),
        ("The bus has 52 seats. We do not know how many are free.", None, 52),
        ("Tom is 12. His sister's age cannot be determined.", None, 12),
        ("There were 80 guests. The number of children was never mentioned.", None, 80),
    ],
    "ordinal": [
        ("She lives on the thirty-second floor.", None, 30),
        ("He came in twenty-first.", None, 20),
        ("It was the forty-fourth president.", None, 40),
        ("She is in the seventh grade.", None, 7),
        ("It is her eighty-ninth birthday.", None, 80),
        ("He sits in the 3rd row.", None, 3),
        ("This is the 101st floor.", None, 101),
        ("It is on the two hundred and sixth page.", None, 200),
        ("It is the one hundred and first day.", None, 100),
        ("It is on the one hundred twelfth page.", None, 100),
        ("That was the three hundredth visitor.", None, 300),
        ("She is the two thousand and fifth member.", None, 2000),
        ("He finished in one hundred and twenty-third place.", None, 120),
        ("It is the fiftieth state.", None, 50),
    ],
    "fractions in LaTeX": [
        (r"The answer is $\frac34$.", 0.75, 3),
        (r"The answer is \(\dfrac{2}{5}\).", 0.4, 2),
        (r"So the answer is $\tfrac18$ of it.", 0.125, None),
        (r"\[\boxed{\frac{7}{8}}\]", 0.875, 7),
        (r"The answer is $\frac{3}4$.", 0.75, 4),
        (r"The answer is $1\frac{1}{2}$ cups.", 1.5, 1),
        (r"The answer is $2\frac34$.", 2.75, 2),
        (r"The answer is $\boxed{\dfrac{1}{4}}$ of a mile.", 0.25, 4),
        (r"The answer is $-\frac{1}{2}$.", -0.5, 0.5),
        (r"$\frac{9}{10}$", 0.9, 9),
    ],
    "parts": [
        ("Three fifths of the pie.", 0.6, 3),
        ("She ate two thirds of it.", 2 / 3, 2),
        ("Five eighths of the class.", 0.625, 5),
        ("Four ninths of the field.", 4 / 9, 4),
        ("Three-quarters of the tank.", 0.75, 3),
        ("One-third of the cake.", 1 / 3, 1),
        ("One sixth of the money.", 1 / 6, 1),
        ("A tenth of the pupils.", 0.1, 10),
        ("Seven twelfths of a year.", 7 / 12, 7),
        ("Eleven twentieths of it.", 0.55, 11),
        ("Nine hundredths of a second.", 0.09, 9),
        ("Half of the pizza.", 0.5, 2),
    ],
    "mixed numbers": [
        ("It takes three and a quarter hours.", 3.25, 3),
        ("She ran four and three quarters miles.", 4.75, 4),
        ("He needs one and two thirds cups.", 5 / 3, 1),
        ("She waits five and a half minutes.", 5.5, 5),
        ("They walked six and one-half miles.", 6.5, 6),
        ("It weighs two and a third pounds.", 2 + 1 / 3, 2),
        ("She needs 3 and 1/4 cups.", 3.25, 3),
        ("He worked 7 and 1/2 hours.", 7.5, 7),
        ("It is 1 and 3/4 miles.", 1.75, 1),
        ("It is 4 1/2 feet.", 4.5, 4),
        ("It is 2-1/2 inches.", 2.5, 2),
        ("It is 5½ metres.", 5.5, 5),
        ("It is 3¾ inches long.", 3.75, 3),
        ("She needs 2 and a half bags.", 2.5, 2),
        ("It takes a day and a half.", 1.5, 0.5),
        ("He ran a mile and a quarter.", 1.25, 0.25),
        ("It lasts two hours and a half.", 2.5, 0.5),
        ("She drank a litre and a half.", 1.5, 0.5),
        ("He waited an hour and a quarter.", 1.25, 0.25),
        ("They stayed one week and a half.", 1.5, 0.5),
    ],
    "powers": [
        ("The answer is 5².", 25, 52),
        ("The answer is 2³.", 8, 23),
        ("It is 10⁶.", 1e6, 106),
        ("The answer is 12².", 144, 122),
        ("The answer is 2^5.", 32, 2),
        ("The answer is 10^{4}.", 1e4, 10),
        (r"The answer is $10^{6}$.", 1e6, 10),
        ("The answer is 3**4.", 81, 3),
        ("The answer is 10^-2.", 0.01, 10),
        ("The answer is 10⁻³.", 0.001, 10),
        ("The answer is 2.5e3.", 2500, 2.5),
        ("The answer is 4e5.", 4e5, 4),
        ("The answer is 7E-2.", 0.07, 7),
        ("The answer is 1.2e+4.", 12000, 1.2),
        ("It is 3 x 10^4.", 30000, 3),
        (r"It is $1.5 \times 10^{6}$.", 1.5e6, 1.5),
        ("It is 6×10³.", 6000, 6),
        ("The field has 48 m².", 48, 2),
        ("The box holds 27 cm³.", 27, 3),
    ],
    "large": [
        ("It is 3 trillion dollars.", 3e12, None),
        ("The debt is 1.5 trillion euros.", 1.5e12, None),
        ("It costs two trillion yen.", 2e12, 2e9),
        ("There are 7 billion people.", 7e9, None),
        ("It sold five million copies.", 5e6, 5000),
        ("She earned half a million dollars.", 5e5, 0.5),
        ("It has a thousand pages.", 1000, None),
        ("It is twelve hundred metres.", 1200, 12),
        ("It costs $48k.", 48000, None),
        ("There are 3 hundred of them.", 300, None),
        ("There are two dozen eggs.", 24, None),
        ("The town has 2 lakh people.", 200000, None),
    ],
    "per cent": [
        ("It is 35 per cent.", 0.35, 3.5),
        ("The share is 12 percent.", 0.12, None),
        ("It fell by 7%.", 0.07, None),
        ("Twenty per cent of them.", 0.2, None),
        (r"The answer is 65\%.", 0.65, None),
        ("It grew 2.5 per cent.", 0.025, None),
        ("The answer is 110 %.", 1.1, None),
        ("Forty-five percent.", 0.45, 5),
    ],
    "thousands": [
        ("It has 37\u202f250 people.", 37250, 250),
        ("It has 4\u2009800 people.", 4800, 800),
        ("It has 1\u00a0200\u00a0000 people.", 1200000, 1200),
        ("It has 9\u2007100 people.", 9100, 100),
        ("It has 12 500 people.", 12500, 500),
        ("It has 1 250 000 people.", 1250000, 250),
        (r"It has $12\,500$ people.", 12500, 500),
        (r"The answer is \boxed{12\,500}.", 12500, 12),
        ("It has 3{,}600 people.", 3600, 600),
        ("It has 12'500 people.", 12500, 12),
        ("It has 1’250’000 people.", 1250000, 250),
        ("It has 1,25,000 people.", 125000, 25000),
        ("It has 12,34,567 people.", 1234567, 12),
        ("It has 1.250.000 people.", 1250000, 1.25),
        ("It costs €12.500.", 12500, 12.5),
        ("It costs 12.500 €.", 12500, 12.5),
        ("It costs 12.500,50 euros.", 12500.5, 12.5),
        ("It weighs 12.5 kg.", 12.5, 125),
        ("It weighs 2,5 kg.", 2.5, 25),
        ("It has 1_000_000 rows.", 1000000, 0),
        ("It has 48_000 people.", 48000, 48),
        ("It has 2_750 seats.", 2750, 2),
        ("It has 10,000 people.", 10000, 10),
        ("It has $1,234.50 in it.", 1234.5, 1),
    ],
    "hex": [
        ("The answer is 0x1F.", None, 1),
        ("The answer is 0xff.", None, 0),
        ("It is stored at 0x48.", None, 48),
        ("The answer is 0X2A.", None, 2),
        ("The flag is 0b101.", None, 101),
        ("The colour is #a0b1c2.", None, 0),
    ],
    "lists in bold": [
        ("**1.** He went to the shop.\n**2.** He bought 30 apples.", 30, 2),
        ("**1)** Read the text.\n**2)** It names 15 cows.", 15, 2),
        ("1. **Read** the text.\n2. **She** has 64 cards.", 64, 2),
        ("- **1.** She baked.\n- **2.** She sold 90 rolls.", 90, 2),
        ("**Step 1:** Look it up.\n**Step 2:** The text says 75 stamps.", 75, 2),
        ("(1) She bought paint.\n(2) She used 12 tins.", 12, 2),
        ("### Step 1\nRead.\n### Step 2\nThe farm has 33 goats.", 33, 2),
    ],
    "thinking": [
        ("<think>The answer is 12.</think>\nTom has 36 cards.", 36, 12),
        ("<think>\n5 + 5 = 10, so 10?\n</think>\n\nHe has 5 pens.", 5, 10),
        ("<thinking>Perhaps 7.</thinking>It is 14.", 14, 7),
        ("It must be 9, no.\n</think>\n\nThe answer is 18.", 18, 9),
        ("<think>The answer is 50.", None, 50),
        ("<think>The answer is 50.</think>", None, 50),
        ("<THINK>It is 3.</THINK> It is 6.", 6, 3),
        ("<reasoning>11 or 22</reasoning>\n22 it is.", 22, 11),
        ("<think>The answer is 40.</think>\nIt cannot be determined.", None, 40),
    ],
    "corrections": [
        ("The answer is not 15 but 30.", 30, 15),
        ("The answer is not 7, but 70.", 70, 7),
        ("It is not 12 apples but 21 apples.", 21, 12),
        ("The answer is 36, not 18.", 36, 18),
        ("The answer is 5 rather than 10.", 5, 10),
        ("The answer isn't 8; it's 16.", 16, 8),
        ("It is 40 instead of 20.", 40, 20),
        ("The answer is 12. Wait, no, it is 24.", 24, 12),
        ("It is 9. No, wait: it is 18.", 18, 9),
        ("She sold 32. Actually, she sold 64.", 64, 32),
        ("He has 3 dogs. Sorry, he has 13 dogs.", 13, 3),
        ("The answer is 24.\n\nCorrection: the answer is 48.", 48, 24),
        ("It is 24 - no, it is 48.", 48, 24),
        ("The answer is 6. Hold on, I misread it. She has 60 pens.", 60, 6),
        ("I said 5, but that is wrong. It is 55.", 55, 5),
    ],
    "a concluding calculation": [
        ("The answer is 4 bags of 15 nuts each, so 60 nuts.", 60, 4),
        ("The answer is 5 rows of 8 seats, which makes 40 seats.", 40, 5),
        ("The answer is 2 boxes with 24 eggs each, i.e. 48 eggs.", 48, 2),
        ("The answer is 3 days at 7 hours a day, hence 21 hours.", 21, 3),
        ("The answer is 6 packs of 10 cards, for a total of 60 cards.", 60, 6),
        ("The answer is 7 tables with 4 chairs each, that is 28 chairs.", 28, 7),
        ("3 x 12 = 36 pens", 36, 3),
        ("So 24 + 24 = 48.", 48, 24),
        ("Altogether that is 3 boxes x 12 pens = 36 pens.", 36, 12),
        (r"So $15 \times 4 = 60$ nuts.", 60, 15),
        (r"\[ 8 \times 6 = \boxed{48} \]", 48, 8),
        ("She has 20 + 15 = 35 stamps in all.", 35, 20),
        ("Half of 90 is 45.", 45, 90),
        ("Each pays $60 / 4 = $15.", 15, 60),
        ("Therefore he had 100 - 37 = 63 left.", 63, 100),
        ("12 times 5 is 60.", 60, 12),
        ("The sum of 14 and 16 is 30.", 30, 14),
        ("Adding 13 and 29 gives 42.", 42, 13),
        ("Since each box holds 12 pens and there are 3 boxes, there are 36 pens.", 36, 12),
        ("There are 36 pens, since each of the 3 boxes holds 12.", 36, 12),
        ("There are 36 pens (3 boxes of 12).", 36, 12),
        ("That leaves 18 of the 30 cakes.", 18, 30),
    ],
    "mathematics in dollars": [
        ("$64$. In June he sold 32.", 64, 32),
        ("$15$ cows. There were 45 sheep.", 15, 45),
        (r"\(27\). The other box had 3.", 27, 3),
        (r"$\boxed{90}$. He lost 10.", 90, 10),
        ("$$36$$\n\nIn May it was 12.", 36, 12),
        (r"\[72\] Last year it was 36.", 72, 36),
        ("$8$ hours. On Monday it was 6.", 8, 6),
        (r"$\textbf{33}$ goats. There were 11 cows.", 33, 11),
        (r"$21 \text{ stamps}$. Ben had 7.", 21, 7),
        (r"$\$14$. The coat was 30.", 14, 30),
    ],
    "code": [
        ("`64` tickets. In June he sold 32.", 64, 32),
        ("`15`. There were 45 sheep.", 15, 45),
        ("```\n27\n```\nThe other box had 3.", 27, 3),
        ("```text\n90\n```\n\nHe lost 10 later.", 90, 10),
        ("`8` hours. On Monday it was `6`.", 8, 6),
        ("**`72`** beads. In June she had 36.", 72, 36),
        ("*21* stamps. Ben had 7.", 21, 7),
        ("__33__ goats. There were 11 cows.", 33, 11),
        ("**64** tickets. In June he sold 32.", 64, 32),
    ],
    "tags": [
        ("<answer>64</answer>\nIn June it was 32.", 64, 32),
        ("<answer> 15 cows </answer> There were 45 sheep.", 15, 45),
        ("<answer>$27</answer>\nThe other one was $3.", 27, 3),
        ("He lost 10.\n<answer>90</answer>", 90, 10),
        ("<answer>\n36\n</answer>\nIn May it was 12.", 36, 12),
        ("<final_answer>72</final_answer>\nLast year it was 36.", 72, 36),
        ("<ANSWER>8</ANSWER> On Monday it was 6.", 8, 6),
        ("#### 21\nBen had 7.", 21, 7),
        ("The answer is \\boxed{33}. There were 11 cows.", 33, 11),
    ],
}

# The cases that the first judge reads wrongly, in the words of this table.
TABLE["the cases themselves"] = [
    ("So, the answer is:\n\n6 miles (the library on her street)\n16 miles (the other one)", 6, 16),
    ("The number is on the twenty-fifth floor.", None, 4),
    ("Two sevenths of the cake.", 2 / 7, 2),
    ("It is 2 trillion dollars.", 2e12, None),
    ("She needs 2 and 1/2 cups.", 2.5, 2),
    ("The answer is:\n\n12 (for adults)\n8 (for children)", 12, 8),
    ("So the answer is: \n\n * 30 rabbits\n\nLast year there were 10.", 30, 10),
    ("I can't answer that; the 12 prices aren't listed.", None, 12),
    ("I cannot answer because the text lists 9 names only.", None, 9),
    ("It is not known which of the 14 cats is black.", None, 14),
    ("It isn't stated how many of the 90 seats were free.", None, 90),
    ("It was not said how many of the 20 eggs broke.", None, 20),
    ("Nothing is said about the 12 blue ones.", None, 12),
    ("The text leaves open how many of the 40 came.", None, 40),
    ("It remains unknown how many of the 8 were red.", None, 8),
    ("There are 50 marbles. How many are blue is unknown.", None, 50),
    ("There are 25 cows. Nobody knows how many are brown.", None, 25),
    ("There are 18 boys. The number of girls is not stated.", None, 18),
    ("There are 60 pages. The rest cannot be known.", None, 60),
    ("We have 30 pens. The number of blue pens is undetermined.", None, 30),
    ("There are 75 seats. We aren't told how many are taken.", None, 75),
    ("I am not able to answer, as the 12 prices are missing.", None, 12),
    ("This cannot be answered: only 3 of the names are given.", None, 3),
    ("That information is not available for the 12 boxes.", None, 12),
    ("The number is not mentioned among the 12.", None, 12),
    ("I have no idea how many of the 16 are red.", None, 16),
    ("Sorry, the 11 ages are not enough to tell.", None, 11),
    ("How many of the 33 are red is left open.", None, 33),
    ("He came in thirty-third.", None, 30),
    ("She is on the sixteenth step.", None, 16),
    ("on the one hundred and twentieth page", None, 100),
    ("It is the two hundred and first day.", None, 200),
    ("It is the one thousandth visitor.", None, 1000),
    ("the ninety-fifth percentile", None, 90),
    ("It's in the forty-second row.", None, 40),
    ("It is page two hundred fifty-third.", None, 250),
    ("her twenty-first birthday", None, 20),
    ("On the fifth day.", None, 5),
    ("the hundred and tenth floor", None, 100),
    ("The answer is $\\frac14$.", 0.25, 1),
    ("The answer is $\\frac 12$.", 0.5, 1),
    ("The answer is $\\frac{1}{3}$.", 0.3333333333333333, 1),
    ("The answer is $\\dfrac58$.", 0.625, 5),
    ("The answer is $\\frac{12}{25}$.", 0.48, 12),
    ("Answer: \\(\\tfrac{3}{4}\\)", 0.75, 3),
    ("It is \\frac{1}{2} of the cake.", 0.5, 2),
    ("It is $1/2$.", 0.5, 1),
    ("It is $\\frac{\\text{3}}{\\text{4}}$.", 0.75, 3),
    ("The answer is $3\\tfrac12$.", 3.5, 3),
    ("Three sevenths of the cake.", 0.42857142857142855, 3),
    ("Five sixths of the money.", 0.8333333333333334, 5),
    ("Two ninths of the group.", 0.2222222222222222, 2),
    ("Three tenths of a mile.", 0.3, 3),
    ("Two-fifths.", 0.4, 2),
    ("One eighth.", 0.125, 8),
    ("Three elevenths of it.", 0.2727272727272727, 3),
    ("four-fifths", 0.8, 4),
    ("She needs three and a half cups.", 3.5, 3),
    ("He needs four and a third cups.", 4.333333333333333, 4),
    ("She needs one and a quarter cups.", 1.25, 1),
    ("six and three quarters", 6.75, 6),
    ("nine and a fifth", 9.2, 9),
    ("She needs 5 and 2/3 cups.", 5.666666666666667, 5),
    ("He needs 1 and 1/8 inches.", 1.125, 1),
    ("It takes an hour and a quarter.", 1.25, 0.25),
    ("It takes a week and a half.", 1.5, 0.5),
    ("A year and a half.", 1.5, 0.5),
    ("a pound and three quarters", 1.75, 0.75),
    ("It takes a minute and a half to boil.", 1.5, 0.5),
    ("an inch and a third", 1.3333333333333333, 0.3333333333333333),
    ("The answer is 7².", 49, 72),
    ("The answer is 3⁴.", 81, 34),
    ("It is 10³ metres.", 1000, 103),
    ("The answer is 15^2.", 225, 15),
    ("2^8", 256, 2),
    ("The answer is 2.4e5.", 240000, 2.4),
    ("The answer is 3E8.", 300000000.0, 3),
    ("It is 9.5e-3.", 0.0095, 9.5),
    ("The answer is 5·10^3.", 5000, 5),
    ("The answer is 4*10^2.", 400, 4),
    ("It is 2 · 10⁵.", 200000.0, 2),
    ("10^2", 100, 10),
    ("It is 5 trillion dollars.", 5000000000000.0, None),
    ("It is 0.75 trillion.", 750000000000.0, None),
    ("a trillion", 1000000000000.0, None),
    ("three trillion two hundred billion", 3200000000000.0, None),
    ("It's 2 quadrillion.", 2000000000000000.0, None),
    ("It is 45 per cent.", 0.45, None),
    ("It is 3.5 per cent.", 0.035, None),
    ("five per cent", 0.05, None),
    ("sixty-six per cent of them", 0.66, 6),
    ("It has 8\u202f000 seats.", 8000, 0),
    ("It has 1\u202f000\u202f000 seats.", 1000000.0, 1),
    ("It has 99\u202f999.", 99999, 999),
    ("It costs 12\u2009345.67 dollars.", 12345.67, 345.67),
    ("It has 7_000 rows.", 7000, 7),
    ("It has 1_234_567.", 1234567, 1),
    ("0xAB12", None, 12),
    ("The answer is 0x7f.", None, 7),
    ("The address is 0x1000.", None, 1000),
    ("The answer is 0xC0FFEE.", None, 0),
    ("0x0", None, 0),
    ("**1.** He baked.\n**2.** He sold 36 buns.\n", 36, 2),
    ("**1**. He baked.\n**2**. He sold 36 buns.", 36, 2),
    ("**First.** He baked.\n**Second.** He sold 36 buns.", 36, 2),
    ("**a.** He baked.\n**b.** He sold 36 buns.", 36, None),
    ("**1:** He baked.\n**2:** He sold 36 buns.", 36, 2),
    ("1\\. He baked.\n2\\. He sold 36 buns.", 36, 2),
    ("<think>It's 12, no 18.</think> He has 36.", 36, 18),
    ("<think>\nThe answer is 7\n</think>\n\n**14**", 14, 7),
    ("<think>x</think>\n\nThe answer is 8. <think>9</think>", 8, 9),
    ("It is not 20 but 40.", 40, 20),
    ("Not 12 but 24.", 24, 12),
    ("The answer is not twenty but forty.", 40, 20),
    ("The answer isn't 15 but 51.", 51, 15),
    ("The answer is 60, not 30.", 60, 30),
    ("She sold not 5 but 50 clips.", 50, 5),
    ("The answer is not 3 dozen but 4 dozen.", 48, 36),
    ("The answer is not $5 but $50.", 50, 5),
    ("It's not 1/2 but 3/4.", 0.75, 0.5),
    ("The answer is not 1,200 but 1,500.", 1500, 1200),
    ("The answer is not 24%, but 42%.", 0.42, 0.24),
    ("The answer is 5 bags of 9 nuts each, so 45 nuts.", 45, 5),
    ("The answer is 4 weeks of 7 days each, so 28 days.", 28, 4),
    ("The answer is 2 trays of 30 eggs, making 60 eggs.", 60, 2),
    ("The answer is 6 teams of 11 players, thus 66 players.", 66, 6),
    ("The answer is 10 notes of $20 each, therefore $200.", 200, 10),
    ("The answer is 3 rounds of 12 minutes each - 36 minutes.", 36, 3),
    ("The answer is 8 boxes with 6 each; that makes 48.", 48, 8),
    ("The answer is 3 boxes of 12 pens each, and so 36 pens.", 36, 3),
    ("The answer is 3 boxes of 12 pens each, 36 pens altogether.", 36, 3),
    ("The answer is 3 boxes of 12 pens each, i.e., 36 pens.", 36, 3),
    ("The answer is 3 boxes of 12 pens each, equaling 36 pens.", 36, 3),
    ("The answer is 3 boxes of 12 pens each, or 36 pens.", 36, 3),
    ("The answer is 3 boxes of 12 pens each, so there are 36 pens.", 36, 3),
    ("The answer is 3 boxes of 12 pens each (36 pens).", 36, 3),
    ("$36$. In May he sold 18.", 36, 18),
    ("$36$ clips. In May he sold 18.", 36, 18),
    ("\\(36\\) clips. In May he sold 18.", 36, 18),
    ("`36`\nIn May he sold 18.", 36, 18),
    ("`36 clips`. In May he sold 18.", 36, 18),
    ("``36``. In May he sold 18.", 36, 18),
    ("<answer>36 clips</answer>. In May he sold 18.", 36, 18),
    ("<answer>The answer is 36</answer>\nIn May it was 18.", 36, 18),
    ("<result>36</result>\nIn May it was 18.", 36, 18),
    ("<final>36</final>\nIn May it was 18.", 36, 18),
    ('{"answer": 36, "may": 18}', 36, 18),
    ('{"answer": "36"}', 36, None),
    ("**Answer:** 36. In May it was 18.", 36, 18),
    ("> 36\n\nIn May it was 18.", 36, 18),
    ("# 36\nIn May it was 18.", 36, 18),
]

TABLE["siblings of the cases"] = [
    ("The text doesn't reveal how many of the 125 caps are red.", None, 125),
    ("The passage never indicates how many of the 40 boys came.", None, 40),
    ("The text does not disclose the 9 names.", None, 9),
    ("The problem does not include the price of the 12 pens.", None, 12),
    ("The question does not contain that; it names 22.", None, 22),
    ("I don't have enough information about the 11 boxes.", None, 11),
    ("There is no answer: the 12 prices are not there.", None, 12),
    ("The prices of the pens are missing; there are 12.", None, 12),
    ("3 pages are missing.", 3, None),
    ("We cannot infer how many of the 40 came.", None, 40),
    ("Nowhere is it stated how many of the 60 eggs are brown.", None, 60),
    ("The text is silent on how many of the 70 caps are red.", None, 70),
    ("How many of the 80 are red is anyone's guess.", None, 80),
    ("It hasn't been stated how many of the 40 came.", None, 40),
    ("I think it's 48, but I'm not sure.", 48, None),
    ("She sold 24 clips, or rather 48.", 48, 24),
    ("She sold 24, no, 48 clips.", 48, 24),
    ("She sold 24, sorry, 48 clips.", 48, 24),
    ("She sold 24 clips. Let me correct that: 48 clips.", 48, 24),
    ("Instead of 24 she sold 48 clips.", 48, 24),
    ("She didn't sell 24 clips; she sold 48.", 48, 24),
    ("She did not sell 24 clips but 48.", 48, 24),
    ("She never sold 24 clips, she sold 48.", 48, 24),
    ("She did not sell 24 of the clips.", 24, None),
    ("It takes one and three-quarters of an hour.", 1.75, 0.75),
    ("It is the 2nd one.", None, 1),
    ("He takes the red one.", None, 1),
    ("It costs US$48.", 48, None),
    ("It costs C$48.50.", 48.5, None),
    ("It costs $5M.", 5e6, None),
    ("It is 5m long.", 5, 5e6),
    ("On 3 May she sold 48 clips.", 48, 3),
    ("On May 3 she sold 48 clips.", 48, 3),
    ("All 3 may come.", 3, None),
    ("- 48\n- In words, the text says so itself", 48, None),
    ("24 + 24 = 48, which is twice 24.", 48, 24),
    ("He starts at 8:00 a.m.", 8, 0),
    ("She is the 1,000th visitor.", None, 1),
    ("She sold 48 clips. It does not include May.", 48, None),
    ("It was in the 1990s.", None, 1990),
    ("She is in her 20s.", None, 20),
    ("It takes 40s.", 40, None),
    ("It is -½.", -0.5, 0.5),
    ("It is −½.", -0.5, 0.5),
    ("It is 1-½ cups.", 1.5, 1),
    ("Adding 48 to 24, we get 72.", 72, 48),
    ("She sold 48 clips. The text does not say to whom.", 48, None),
    ("None of them.", None, 0),  # only a written number is a number
    ("She has no pens.", None, 0),
    ("She has zero pens.", 0, None),
]

# Response, question, the number that a reader takes.
ASKED = [
    ("48 in April and 24 in May.", "How many clips did Natalia sell in May?", 24),
    (
        "She sold 48 in April and 24 in May.",
        "Natalia sold 48 clips in April and 24 in May. How many clips did she sell in May?",
        24,
    ),
    ("Tom has 12 pens and Ann has 9.", "How many pens does Ann have?", 9),
    ("Tom has 12 pens and Ann has 9.", "How many pens does Tom have?", 12),
    ("Tom is 12 years old, Ann 9.", "How old is Ann?", 9),
    *[
        ("Ida read 12 pages on Monday, 20 on Tuesday and 30 on Friday.", f"How many pages did Ida read on {day}?", n)
        for day, n in [("Monday", 12), ("Tuesday", 20), ("Friday", 30)]
    ],
    ("The film is 1 hour and 30 minutes long.", "How long is the film?", 1),
    (
        "She has 60 red roses, 5 yellow ones and 15 white roses in her garden, for a total of 80 roses.",
        "How many roses does she have in her garden?",
        80,
    ),
    (
        "Joy reads 8 pages in 20 minutes.",
        "Joy can read 8 pages in 20 minutes. How many pages does she read in 20 minutes?",
        8,
    ),
    ("In 20 minutes there are 8 pages.", "How many minutes does Joy need for 8 pages?", 20),
    ("Lea has 12 red pens, 5 blue pens and 7 cups.", "How many cups does Lea have?", 7),
    ("Lea has 12 red pens, 5 blue pens and 7 cups.", "How many blue pens does Lea have?", 5),
    ("Natalia sold 48 clips in April and 24 in May.", "How many clips did Natalia sell in April?", 48),
    ("Ali has 125 bottle caps. How many are red is not given.", "How many bottle caps does Ali have?", 125),
    ("Mia has 2 walls that are 4 metres wide.", "How many walls does Mia have?", 2),
    ("So Leo bought 24 tickets for a total of $84, which is half of $168.", "How many tickets did Leo buy?", 24),
    ("Ida has 3 dozen eggs, which is equal to 36 eggs.", "How many dozen eggs does Ida have?", 3),
    ("The pass is valid for 30 days. It costs $50.", "How many days is the pass valid for?", 30),
    (
        "The pass is valid for 30 days. So after 10 days, it is valid for 20 days.",
        "How many days is it still valid?",
        20,
    ),
    ("Mia won 5 tickets at the games and found 4, for a total of 9.", "How many tickets did Mia win at the games?", 5),
    ("Of the 208 pupils 26 play chess, that is 12.5 %.", "What percentage of the pupils play chess?", 0.125),
]
# They need no question.
CALCULATIONS = [
    "7x9 is 63.",
    "The addition of 24 and 24 yields 48.",
    "We need to add 24 and 24.",
    "That is 3x and 2x, or 5x.",
    "3x is 48.",
    "5x4 = 20.",
    "12x3 makes 36.",
    "9x9 equals 81.",
    "2x15 gives 30.",
    "90 over 6 is 15.",
    "100 over 4 equals 25.",
    "81 over 9 = 9.",
    "60 over 5 is 12.",
    "72 over 8 gives 9.",
    "We add 12 and 30 to get 42.",
    "Adding 15 to 20, we get 35.",
    "If you add 7 and 8, you get 15.",
    "I added 9 and 11.",
    "She adds 5 to 10 and has 15.",
    "Take 30 away from 50 and 20 remain.",
    "Subtract 5 from 20.",
    "12 plus 30 is 42.",
    "Multiply 6 by 7.",
    "The product of 6 and 7 is 42.",
    "The difference between 50 and 20 is 30.",
    "Twice 24 is 48.",
    "Double 15 and you have 30.",
    "A third of 90 is 30.",
    "20% of 50 is 10.",
    "She had 12 pens and bought 30 more, so she has 42.",
    "There were 50 and 20 left, which leaves 30.",
    "Each of the 4 boxes holds 12, for a total of 48.",
    "He had 20 and lost 5. That leaves 15.",
    "Tom has 12 and Ann twice as many, which is 24.",
    "Three boxes of 12 pens make 36 pens.",
    "With 5 rows of 8 seats there are 40 seats in total.",
    "48 divided by 2 is 24.",
    "$\\frac{48}{2} = 24$",
    "$6 \\cdot 7$ is 42",
    "The total comes to 42: 12 from Ann and 30 from Ben.",
    "Let n be the number of pens.",
    "Suppose he has x pens.",
    "12 of 48 is 1/4, i.e. 25%.",
    "After giving 7 of her 20 cookies away, she has 13 left.",
    "6x8 is 48.",
    "144 over 3 is 48.",
    "We add 24 and 24 to get 48.",
    "48 + 24",
    "Let x be the price.",
    "7x6 is 42.",
    "96 over 4 is 24.",
    "We add 15 and 20 to get 35.",
    "We subtract 5 from 20 to get 15.",
    "We double 24 to get 48.",
    "Three times 16 makes 48.",
    "4 groups of 12 make 48.",
    "24 doubled is 48.",
    "Half of 96 makes 48.",
    "48 is the product of 6 and 8.",
    "6 lots of 8 are 48.",
    "15 and 20 together make 35.",
    "From 50 we take away 2, which leaves 48.",
    "Dividing 144 by 3 gives 48.",
    "The sum of 24 and 24 is 48.",
    "48 is twice 24.",
    "24 more than 24 is 48.",
    "Five less than 53 is 48.",
    "We multiply 6 and 8 to get 48.",
    "12 and 36 make 48.",
    "If you take 2 from 50, you get 48.",
    "Two dozen plus two dozen is 48.",
    "Six times eight is forty-eight.",
    "Twenty plus thirty is fifty.",
    "Forty-eight is half of ninety-six.",
    "Add 24 to 24 and you have 48.",
    "The total of 24 and 24 is 48.",
    "She spent 12 and 36, altogether 48.",
    "The difference of 50 and 2 is 48.",
    "3 out of 12 is a quarter.",
    "A quarter of 192 is 48.",
    "Split 96 in two and you get 48.",
    "96 split in two is 48.",
    "To get the total, multiply the price by the number of boxes.",
    "Combining 24 and 24, we have 48.",
    "It was 24 in May; in April it was double that: 48.",
    "24, so twice that is 48.",
    "50 take away 2 is 48.",
    "Of her 60 clips 12 were left, so she sold 48.",
]
NONE = [
    "She paid the sum of $75.",
    "The 3x zoom costs $48.",
    "The text says so => 48 clips.",
    "It has a 10x optical zoom.",
    "It is 3x faster.",
    "It is 3x as fast, at 48 km/h.",
    "She takes 48 pills 2x a day.",
    "We do not need to add anything: 48.",
    "There is no need to multiply; the answer is 48.",
    "Without adding anything, it is 48.",
    "The sum of $30 was paid by Ben.",
    "He lent her the sum of 200 euros.",
    "He owes a sum of $15.",
    "They raised the sum of £900.",
    "Plan X costs $20.",
    "Team X has 12 players.",
    "Route X is 9 miles long.",
    "Model X weighs 3 tons.",
    "Machine X makes 40 parts.",
    "Plan x is $48.",
    "The letter x appears 5 times.",
    "The X-ray costs $80.",
    "The land was divided among 3 sons by their father.",
    "The money was divided by the 5 friends at noon.",
    "The prize was divided between 2 teams by the judge.",
    "The sweets were divided among 6 children by Mia.",
    "The class of 30 was divided into groups by the teacher.",
    "The photo is 4x6 inches.",
    "He waits 10-20 minutes.",
    "The score was 3-2.",
    "She adds 2 cups of milk.",
    "She has twice as many pens as Tom, who has 12.",
    "It is a 24/7 shop.",
    "He read half of the book, which has 90 pages.",
    "She shared it equally with 3 friends.",
    "It costs $5 more than last year.",
    "She paid the sum of $48.",
    "Plan X costs $48.",
    "The cake was divided among 4 friends by Anna.",
    "48",
    "Natalia sold clips to 48 friends in April.",
    "* 48 clips\n* in April",
    "It is 48. It is 48 clips.",
    "She has a sum of $48 in her account.",
    "The total is $48.",
    "A total of 48 people came.",
    "Size X costs $48.",
    "Gate X opens at 8.",
    "He split the cake among 4 friends.",
    "She added 3 eggs to the dough.",
    "The 4x4 car costs 900.",
    "She scored 3 times.",
    "It took over 48 hours.",
    "He paid $48 over 3 months.",
    "She walked 12 miles over 2 days.",
    "The class was divided into 4 groups by the teacher.",
    "The estate was divided among 3 sons in equal parts.",
    "Mr. X owes $48.",
    "Factor X is 48.",
    "Product X weighs 5 pounds.",
    "Store X sells 30 lamps.",
    "Chapter X has 48 pages.",
    "The winnings were divided by lot among 5 men.",
    "He owes her the sum of one hundred dollars.",
    "The sum of $48 is due.",
    "The sum was $48.",
    "Line X runs 6 times a day.",
    "A 10 by 12 room.",
    "It is a 5-by-7 card.",
    "She works 9-5.",
    "From 9 to 5 she works.",
    "He ran 3/4 of a mile.",
    "It was 1/2 full.",
    "24/7 service.",
    "He is 6 feet 2.",
    "Ann and 3 friends each got 12 sweets.",
    "She bought 12 boxes with 3 pens each.",
    "She sold half as many in May as in April, when it was 48.",
    "He has three times as many cards as Tom.",
    "The answer is 48.",
    "So the answer is 48.",
    "Therefore, she sold 48 clips.",
    "In total, 48 people came.",
    "That is 48 clips.",
    "In April she sold 48 clips, so the answer is 48.",
]

ROWS = [(about, *row) for about, rows in TABLE.items() for row in rows]


@pytest.mark.parametrize(("about", "response", "right", "wrong"), ROWS)
def test_the_number_that_a_reader_takes(about, response, right, wrong):
    if right is None:
        reading = judge(response, wrong or 0)
        assert (reading.value, reading.correct, reading.kind) == (None, False, "no-answer")
    else:
        reading = judge(response, right)
        assert reading.correct
        assert reading.value == pytest.approx(right)
    assert wrong is None or not judge(response, wrong).correct


@pytest.mark.parametrize(("response", "question", "right"), ASKED)
def test_the_question_tells_which_of_several_numbers_is_meant(response, question, right):
    assert judge(response, right, question=question).value == right
    assert judge(response, right, question=Question(question, right, 0)).value == right


@pytest.mark.parametrize("response", CALCULATIONS)
def test_what_is_a_calculation(response):
    assert judge(response, 1).redundant


@pytest.mark.parametrize("response", NONE)
def test_what_is_none(response):
    assert not judge(response, 1).redundant


QUESTION = "Ann has 1,200 pens, half of them red, and three dozen cups. She is in the 4th grade. How many pens has she?"


@pytest.mark.parametrize(
    ("response", "redundant"),
    [
        ("Ann has 1200 pens.", False),
        ("Of 1.2 thousand pens 50 % are red; there are 36 cups.", False),
        ("In the 4th grade, Ann has one thousand two hundred pens.", False),
        ("Ann has 600 red pens.", True),
        ("She has 1236 things.", True),
        ("Fourteen.", True),
        ("1. Ann has pens.\n2. She has 1,200 pens.\n3. There are no others.", False),
    ],
)
def test_a_number_that_is_not_in_the_question_was_computed(response, redundant):
    assert judge(response, 1200, question=QUESTION).redundant == redundant
    assert not judge("Ann has 600 pens.", 1200).redundant


@pytest.mark.parametrize("response", ["The answer is 48.", "48", r"\boxed{48}", "She sold 48 + 24 = 72. So she", ""])
def test_what_is_cut_off_has_no_answer(response):
    reading = judge(response, 48, truncated=True)
    assert (reading.kind, reading.value, reading.correct) == ("no-answer", None, False)
    assert reading.redundant == judge(response, 48).redundant


def test_values_and_kinds():
    assert judge("28 %", 28).value == 28
    assert judge("28 %", 0.28).value == 0.28
    assert judge("28 %", 7).value == 0.28
    assert judge("3 dozen eggs", 3).value == 3
    assert judge("3 dozen eggs", 36).value == 36
    assert judge("3 x 4 = 12", 12) == Reading(correct=True, redundant=True, kind="reasoning", value=12)
    assert judge("3 x 4 = 12", 4).kind == "wrong"
    assert isinstance(judge("12", 12), Verdict)
    assert all(judge("48", answer).correct for answer in (48, 48.0, Fraction(48), np.float32(48), np.int64(48)))
    assert not judge("0.0000000001", 0).correct


def test_the_expected_number_changes_no_reading():
    for _, response, right, wrong in ROWS:
        if right is not None and wrong is not None and "%" not in response:
            assert judge(response, wrong).value != wrong


@pytest.mark.whole
def test_both_judges_are_named_whatever_is_imported():
    """A first import of a submodule would put the module in the place of the function of the same name."""
    module = importlib.import_module("geolib.reasoning.judge")
    assert geolib.reasoning.judge is judge is not module
    assert geolib.reasoning.frozen_judge is frozen_judge is first_judge is module.judge
    code = "import geolib.reasoning.judge as j; import geolib.reasoning; print(geolib.reasoning.judge('48', 48).value)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "48.0\n"


FRAGMENTS = [
    *"0123456789 .,-/+*=x%$\n()[]{}\\:!?½²^_'§¶€",
    *["48", "1,200", "one", "hundred", "half", "a", "dozen", "and", "third", "th", "**", "\\boxed{", "\\frac12", "e5"],
    *["the answer is", "####", "since", "cannot", "<think>", "</think>", "minus", " of ", "1. ", "percent", "million"],
    *["wait, ", "not ", "which is ", "a total of ", "0x", "`", "<answer>"],
]


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.text(max_size=200), st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)),
    st.sampled_from([0, 0.5, 48, 1200, -1e300]),
    st.sampled_from([None, QUESTION, "", "?"]),
)
def test_any_text_is_judged(response, answer, question):
    reading = judge(response, answer, question=question)
    assert reading.correct == (reading.kind in ("extraction", "reasoning"))
    assert (reading.value is None) == (reading.kind == "no-answer")
    assert reading.value is None or math.isfinite(reading.value)


@given(st.integers(0, 10**8))
def test_digits_and_separators_are_read_back(number):
    groups = f"{number:,}"
    for written in (str(number), groups, groups.replace(",", "\u202f"), groups.replace(",", "'"), f"{number:_}"):
        assert judge(f"It is {written} in all.", number).correct
    assert judge(f"It is ${number:,}.50", number + 0.5).correct
    assert not judge(f"It is {number}.", number + 1).correct


@pytest.mark.parametrize(
    "unit",
    [
        *[
            "1",
            "1,",
            "1 ",
            "1 + ",
            "1/1 ",
            "1.000.",
            "1_000 ",
            "(",
            "(1 ",
            " ",
            "\n",
            "½",
            "²",
            "$",
            "**1**",
            "<<",
            "a. ",
        ],
        *["\\frac", "\\frac{", "\\boxed{", "\\text{", "answer is ", "answer to the ", "<think>", "</think>", "#", "1="],
        *["one hundred ", "a thousand ", "minus ", "since, ", "wait, ", "not ", "not 1 ", "divide ", "half of ", "x "],
        *["add 1 and ", "let x ", "cannot ", "so 1 ", "how much ", "how many ", "1. \n", "a X ", "a/", "`", "[", "~~"],
    ],
)
def test_long_texts_take_linear_time(unit):
    """Ten times the text takes ten times as long, where a quadratic pattern would take a hundred times."""

    def seconds(letters):
        text = (unit * letters)[:letters]
        start = time.process_time()  # what other processes do meanwhile does not count
        judge(text + " th =", 1)
        judge("48", 48, question=text)
        return time.process_time() - start

    assert seconds(100_000) < 40 * max(seconds(10_000), 0.01)


@pytest.mark.parametrize(
    ("arguments", "more", "error", "message"),
    [
        ((None, 48), {}, TypeError, "response is NoneType, but a str was expected"),
        ((b"48", 48), {}, TypeError, "response is bytes, but a str was expected"),
        (("48", "48"), {}, TypeError, "answer is '48', but a finite number was expected"),
        (("48", True), {}, TypeError, "answer is True, but a finite number was expected"),
        (("48", math.nan), {}, ValueError, "answer is nan, but a finite number was expected"),
        (("48", 48), {"question": 7}, TypeError, "question is int, but a str or a Question was expected"),
        (("48", 48), {"truncated": "no"}, TypeError, "truncated is 'no', but a bool was expected"),
    ],
)
def test_errors(arguments, more, error, message):
    with pytest.raises(error) as raised:
        judge(*arguments, **more)
    assert str(raised.value) == f"judge: {message}"


# Chiang and Lee 2024: in percent, share of responses with a calculation.
PUBLISHED = {"gpt-3.5-turbo-0613": 47.1, "Llama-2-70b-chat-hf": 80.3}


@pytest.mark.whole
@pytest.mark.parametrize("model", PUBLISHED)
def test_published_redundancy(model):
    data = Path(os.environ.get("GEOLIB_DATA") or Path(__file__).parents[3] / "shared" / "data")
    files = [data / "published_answers" / f"{model}.jsonl", data / "gsm8k_zero.jsonl"]
    if not all(file.exists() for file in files):
        pytest.skip(f"no published answers in {data}")
    answers, questions = ([json.loads(line) for line in file.read_text("utf-8").splitlines()] for file in files)
    without = [judge(one["response"], one["answer"]).redundant for one in answers]
    with_question = [
        judge(one["response"], one["answer"], question=asked["question"]).redundant
        for one, asked in zip(answers, questions, strict=True)
    ]
    assert 100 * np.mean(without) == pytest.approx(PUBLISHED[model], abs=2)
    assert 100 * np.mean(with_question) == pytest.approx(PUBLISHED[model], abs=2)
