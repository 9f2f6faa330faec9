import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import software.amazon.awssdk.awscore.retry.AwsRetryStrategy;
import software.amazon.awssdk.services.sts.StsClient;

/**
 * For each line on standard input: calls GetCallerIdentity at STS_ENDPOINT with the AWS SDK for Java, one client and the
 * default credential chain. Prints the account or the error.
 */
final class Driver {
    /** Created for the first line, or for a later line if that failed. */
    private static StsClient client;

    public static void main(String[] arguments) throws IOException {
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        while (lines.readLine() != null) {
            out.println(answer());
        }
    }

    private static String answer() {
        try {
            if (client == null) {
                client = newClient();
            }
            return json("account", client.getCallerIdentity().account());
        } catch (RuntimeException error) {
            return json("error", chain(error));
        }
    }

    private static StsClient newClient() {
        return StsClient.builder()
                .endpointOverride(URI.create(System.getenv("STS_ENDPOINT")))
                .overrideConfiguration(settings -> settings.retryStrategy(AwsRetryStrategy.doNotRetry()))
                .build();
    }

    /** An error and its causes in one line. */
    private static String chain(Throwable error) {
        return Stream.iterate(error, each -> each != null, Throwable::getCause)
                .map(Throwable::toString)
                .collect(Collectors.joining(": "))
                .replaceAll("\\s+", " ");
    }

    /** A JSON object with one text. Control characters become spaces. */
    private static String json(String key, String text) {
        var quoted = text.replaceAll("\\p{Cntrl}", " ").replace("\\", "\\\\").replace("\"", "\\\"");
        return "{\"" + key + "\": \"" + quoted + "\"}";
    }
}
