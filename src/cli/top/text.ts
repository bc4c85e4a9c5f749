/** Text in the cells of a terminal: how wide it is, cut to a width, and nothing in it that commands. */
import { visible } from "../../internal/reasons/text.ts"

const segments = new Intl.Segmenter("en", { granularity: "grapheme" })

// two cells: East Asian wide and full width forms, and what is drawn as a picture
const wide =
  /^(?:[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6]|[\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}|\p{RGI_Emoji_Flag_Sequence})/v

const widthOf = (
  char: string
): number => (/^\p{M}/u.test(char) ? 0 : wide.test(char) || char.includes("\ufe0f") ? 2 : 1)

const isAscii = /^[\x20-\x7e]*$/

/** As many cells as `width`, filled with blanks; what is longer ends in `…`. Text of a peer becomes harmless. */
export const fit = (text: string, width: number, side: "left" | "right" = "left"): string => {
  if (width <= 0) return ""
  const plain = visible(text).replaceAll("\t", " ")
  if (isAscii.test(plain) && plain.length <= width) return side === "left" ? plain.padEnd(width) : plain.padStart(width)
  let cut = ""
  let cells = 0
  // what is there of it where one cell is left for `…`
  let kept = ""
  let keptCells = 0
  for (const { segment } of segments.segment(plain.slice(0, width * 8))) {
    const more = widthOf(segment)
    if (cells + more > width) return `${kept}…${" ".repeat(width - keptCells - 1)}`
    cut += segment
    cells += more
    if (cells <= width - 1) [kept, keptCells] = [cut, cells]
  }
  const blanks = " ".repeat(width - cells)
  return side === "left" ? cut + blanks : blanks + cut
}
