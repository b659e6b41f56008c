import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's own command-line tools, unmodified, in one JVM: their `main` is called with the arguments
 * of a shell, and what would end the process ends the command. Commands are lines of fields, by tabs:
 *
 *   run    INPUT CLASS ARGUMENT...    INPUT: a file for standard input, or nothing
 *   start  NAME CLASS ARGUMENT...     goes on in the background
 *   stop   NAME                       as by SIGTERM
 *
 * `run` and `stop` answer STATUS BYTES-OF-OUTPUT BYTES-OF-ERRORS in a line, and then these bytes.
 */
public class Tools {
    /** One command: its thread and those it starts read and write here. */
    static final class Run {
        final ByteArrayOutputStream out = new ByteArrayOutputStream(), err = new ByteArrayOutputStream();
        final List<Runnable> hooks = new ArrayList<>();
        final InputStream input;
        final Thread thread;
        /** The first exit counts: tools catch what they do not know, and go on to exit again. */
        int status = -1, outLength, errLength;

        Run(byte[] input, String tool, String... arguments) {
            this.input = new ByteArrayInputStream(input);
            thread = new Thread(() -> call(tool, arguments));
        }

        void call(String tool, String... arguments) {
            RUNNING.set(this);
            try {
                Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
            } catch (InvocationTargetException ended) {
                if (!(ended.getCause() instanceof Ended)) died(ended.getCause());
            } catch (ReflectiveOperationException why) {
                died(why);
            }
            exited(0);
        }

        /** What the JVM prints of an exception nobody catches. */
        void died(Throwable why) {
            System.err.print("Exception in thread \"main\" ");
            why.printStackTrace();
            exited(1);
        }

        synchronized void exited(int code) {
            if (status != -1) return;
            status = code;
            outLength = out.size();
            errLength = err.size();
        }

        void runHooks() throws InterruptedException {
            for (Runnable hook : hooks) {
                Thread one = new Thread(hook);
                one.start();
                one.join(10_000);
            }
        }
    }

    static final class Ended extends Error {
        private static final long serialVersionUID = 1;
    }

    static final InheritableThreadLocal<Run> RUNNING = new InheritableThreadLocal<>();
    static final Map<String, Run> BACKGROUND = new HashMap<>();
    static final PrintStream ANSWERS = System.out;

    public static void main(String[] arguments) throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        redirect();
        for (String line; (line = commands.readLine()) != null;) {
            String[] f = line.split("\t", -1);
            String[] rest = f.length < 3 ? new String[0] : Arrays.copyOfRange(f, 3, f.length);
            switch (f[0]) {
                case "run" -> {
                    Run run = new Run(f[1].isEmpty() ? new byte[0] : Files.readAllBytes(Path.of(f[1])), f[2], rest);
                    run.thread.start();
                    run.thread.join();
                    run.runHooks();
                    answer(run);
                }
                case "start" -> {
                    Run run = new Run(new byte[0], f[2], rest);
                    BACKGROUND.put(f[1], run);
                    run.thread.start();
                }
                default -> {
                    Run run = BACKGROUND.remove(f[1]);
                    run.runHooks();
                    run.thread.join(10_000);
                    answer(run);
                }
            }
        }
        Runtime.getRuntime().halt(0);
    }

    static void redirect() {
        Exit.Procedure exit = (code, message) -> {
            RUNNING.get().exited(code);
            throw new Ended();
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        Exit.setShutdownHookAdder((name, hook) -> RUNNING.get().hooks.add(hook));
        System.setIn(new InputStream() {
            @Override public int read() { throw new UnsupportedOperationException(); }
            @Override public int read(byte[] bytes, int from, int length) throws java.io.IOException {
                return RUNNING.get().input.read(bytes, from, length);
            }
        });
        System.setOut(stream(true));
        System.setErr(stream(false));
    }

    static PrintStream stream(boolean out) {
        return new PrintStream(new OutputStream() {
            @Override public void write(int one) { write(new byte[] {(byte) one}, 0, 1); }
            @Override public void write(byte[] bytes, int from, int length) {
                Run run = RUNNING.get();
                if (run != null) (out ? run.out : run.err).write(bytes, from, length);
            }
        }, true, StandardCharsets.UTF_8);
    }

    static void answer(Run run) {
        ANSWERS.println(run.status + " " + run.outLength + " " + run.errLength);
        ANSWERS.write(run.out.toByteArray(), 0, run.outLength);
        ANSWERS.write(run.err.toByteArray(), 0, run.errLength);
        ANSWERS.flush();
    }
}
