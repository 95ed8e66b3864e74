/**
 * Asks for all that comes in one turn of the event loop together. A single question waits no longer than that turn: a
 * trip costs much the same with one as with many, on both ends.
 * @param most so many questions are not kept waiting for more.
 * @param ask gets them in the order they came, and answers each in its place. What it rejects with, each is rejected with.
 */
export function inOneTrip<Question, Answer>(
  most: number,
  ask: (questions: readonly Question[]) => Promise<readonly Answer[]>,
): (question: Question) => Promise<Answer> {
  let waiting: Waiting<Question, Answer>[] = [];

  function send(): void {
    const sent = waiting;
    if (sent.length === 0) return; // there were so many that they have gone already
    waiting = [];
    ask(sent.map(({ question }) => question)).then(
      (answers) => {
        for (let i = 0; i < sent.length; i++) sent[i]!.resolve(answers[i]!);
      },
      (error: unknown) => {
        for (const { reject } of sent) reject(error);
      },
    );
  }

  return (question) =>
    new Promise((resolve, reject) => {
      waiting.push({ question, resolve, reject });
      if (waiting.length >= most) send();
      else if (waiting.length === 1) setImmediate(send);
    });
}

type Waiting<Question, Answer> = {
  readonly question: Question;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
};
